"""Latency records of an exported .tflite file: measured on this CPU, or on an Android device over adb."""

import platform
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from pocketdit.files import sha256_of
from pocketdit.latency.records import LatencyRecord, measured, now, this_system
from pocketdit.litert import android
from pocketdit.litert.interpreter import LiteRTModel

FILE = "network.tflite"


def on_this_cpu(file: Path, inputs: dict[str, Tensor], size: str, threads: int, passes: int) -> LatencyRecord:
    """The median of ``passes`` after one that does not count. ``size``: picture HEIGHTxWIDTH."""
    samples = LiteRTModel(file, threads).milliseconds(inputs, passes)
    units = f"CPU, {count(threads)}"
    return measured(samples, file.stem, sha256_of(file), processor(), this_system(), units, 1, size, "LiteRT, XNNPACK")


def on_android(
    file: Path, benchmark: Path, size: str, threads: int, passes: int, gpu: bool, serial: str | None
) -> LatencyRecord:
    """As ``android.measure``, on the connected device. ``RunError`` where there is none or it gives no timing."""
    device = android.find_device(serial)
    timing = android.measure(file, benchmark, device, threads, passes, gpu)
    units = f"GPU and CPU, {count(threads)}" if gpu else f"CPU, {count(threads)}"
    note = "LiteRT's benchmark_model; the mean, it told no median" if timing.is_mean else "LiteRT's benchmark_model"
    return LatencyRecord(
        file.stem, sha256_of(file), "measured", device.name, device.system, units, 1, size, timing.median, timing.low,
        timing.high, timing.spread, timing.runs, now(), note,
    )  # fmt: skip


def count(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def processor() -> str:
    """From /proc/cpuinfo where there is one: on Linux Python itself knows no more than the architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

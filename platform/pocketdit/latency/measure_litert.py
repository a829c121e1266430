"""Time an exported .tflite file on this CPU, or on an Android device over adb."""

import platform
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from pocketdit.export.litert.export import ExportedModel
from pocketdit.export.litert.interpreter import LiteRTModel
from pocketdit.export.litert.settings import LiteRTRuntime
from pocketdit.files import sha256_of
from pocketdit.latency import android
from pocketdit.latency.records import LatencyRecord, add_record, measurement, system_name, timestamp


def measure_exported(model: ExportedModel, runtime: LiteRTRuntime) -> list[LatencyRecord]:
    """Time an exported model with the settings in ``runtime``, and add the records to its bundle.

    Raises:
        RunError: The Android device cannot be reached or does not report a timing.
    """
    size = f"{model.image_size[0]}x{model.image_size[1]}"
    records = []
    if runtime.passes:
        records.append(measure_on_cpu(model.file, model.inputs, size, runtime.threads, runtime.passes))
        add_record(model.file.parent, records[-1])
    if runtime.benchmark is not None:
        records.append(measure_on_android(model.file, runtime.benchmark, size, runtime))
        add_record(model.file.parent, records[-1])
    return records


def measure_on_cpu(file: Path, inputs: dict[str, Tensor], size: str, threads: int, passes: int) -> LatencyRecord:
    """Time ``passes`` passes on this CPU, after one warm-up pass. ``size`` is the image size HEIGHTxWIDTH."""
    samples = LiteRTModel(file, threads).milliseconds(inputs, passes)
    units = f"CPU, {_threads_text(threads)}"
    return measurement(
        samples, file.stem, sha256_of(file), _cpu_name(), system_name(), units, 1, size, "LiteRT, XNNPACK"
    )


def measure_on_android(file: Path, benchmark: Path, size: str, runtime: LiteRTRuntime) -> LatencyRecord:
    """Time a file on the connected Android device with the benchmark_model binary at the path ``benchmark``."""
    device = android.find_device(runtime.serial)
    timing = android.measure(file, benchmark, device, runtime.threads, max(1, runtime.passes), runtime.gpu)
    units = f"{'GPU and CPU' if runtime.gpu else 'CPU'}, {_threads_text(runtime.threads)}"
    note = "LiteRT's benchmark_model" + (", which reported the mean instead of the median" if timing.is_mean else "")
    return LatencyRecord(
        file.stem, sha256_of(file), "measured", device.name, device.system, units, 1, size, timing.median, timing.low,
        timing.high, timing.spread, timing.runs, timestamp(), note,
    )  # fmt: skip


def _threads_text(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _cpu_name() -> str:
    """Return the name of this machine's processor. On Linux, ``platform`` reports only the architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""A .tflite file timed on an Android device over adb, by LiteRT's own benchmark_model.

The tool and its binary for android_arm64: https://ai.google.dev/edge/litert/next/benchmark. Its last lines are
(microseconds, counted over the passes after the warm-up; older builds end at std)

    count=50 first=91840 curr=91203 min=90877 max=95120 avg=91544 std=912 p5=90911 median=91310 p95=93870
    Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): 1.3576e+06, Inference (avg): 91544
"""

import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pocketdit.errors import RunError

FOLDER = "/data/local/tmp"
LONGEST = 3600  # seconds that one call of adb may take


@dataclass(frozen=True)
class Timing:
    """Milliseconds of ``runs`` passes. ``median`` is the mean where the tool tells no median (``is_mean``).

    ``spread``: what ``low`` and ``high`` are; an older build tells no percentiles.
    """

    median: float
    low: float
    high: float
    runs: int
    spread: str = "5th to 95th percentile"
    is_mean: bool = False


@dataclass(frozen=True)
class AndroidDevice:
    """``serial``: adb's name of it. ``name``: maker and model. ``system``: Android's version."""

    serial: str
    name: str
    system: str


def parse_benchmark(text: str) -> Timing:
    """What benchmark_model printed -> the timing of its measured passes. ``RunError`` where there is none."""
    counts = re.findall(r"\bcount=(\d+)((?: \w+=[\d.e+]+)+)", text)
    if "Inference timings in us" not in text or not counts:
        said = [line.strip() for line in text.splitlines() if line.strip()]
        raise RunError(f"benchmark_model gave no timing; it ended with: {said[-1] if said else 'nothing'}")
    runs, listed = counts[-1]  # the first such line is the warm-up's
    us = {name: float(value) for name, value in re.findall(r"(\w+)=([\d.e+]+)", listed)}
    only = us["curr"]  # a single pass, or several that took equally long: nothing else is told
    middle = us.get("median", us.get("avg", only))
    low, high = us.get("p5", us.get("min", only)), us.get("p95", us.get("max", only))
    spread = Timing.spread if "p5" in us else "least to greatest"
    return Timing(middle / 1000, low / 1000, high / 1000, int(runs), spread, "median" not in us and "avg" in us)


def adb(*words: str, serial: str | None = None) -> str:
    """Output of an adb command. ``RunError`` in one line where adb is missing, fails or hangs."""
    if shutil.which("adb") is None:
        raise RunError("adb is not installed: it comes with Android's platform-tools")
    command = ["adb", *(["-s", serial] if serial else []), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        raise RunError(f"adb {words[0]} did not end within {LONGEST // 60} minutes") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise RunError(f"adb {words[0]} failed: {said[-1] if said else f'status {done.returncode}'}")
    return done.stdout + done.stderr


def find_device(serial: str | None = None) -> AndroidDevice:
    """The connected device, or the one of this serial number. ``RunError`` where there is none or more than one."""
    lines = adb("devices").partition("List of devices attached")[2].splitlines()
    states = dict(line.split()[:2] for line in lines if len(line.split()) >= 2)
    wanted = [serial] if serial else list(states)
    if not states:
        raise RunError("no Android device is connected: adb devices lists none")
    if len(wanted) > 1:
        raise RunError(f"several Android devices are connected: choose one of {', '.join(sorted(states))}")
    (chosen,) = wanted
    if states.get(chosen) != "device":
        state = states.get(chosen, f"not connected; there is {', '.join(sorted(states))}")
        raise RunError(f"Android device {chosen} is {state}")

    def of(name: str) -> str:
        return adb("shell", "getprop", name, serial=chosen).strip()

    model = f"{of('ro.product.manufacturer')} {of('ro.product.model')}"
    return AndroidDevice(chosen, model, f"Android {of('ro.build.version.release')}")


def measure(
    model: Path, benchmark: Path, device: AndroidDevice, threads: int = 4, runs: int = 20, gpu: bool = False
) -> Timing:
    """Push model and binary, run, remove the model. ``benchmark``: benchmark_model for the device's processor.

    With ``gpu`` the GPU delegate takes what it can, in fp16. Raises ``RunError`` as ``adb`` and ``parse_benchmark``.
    """
    for file in (model, benchmark):
        if not file.is_file():
            raise RunError(f"{file} is not there")
    tool, graph = f"{FOLDER}/{benchmark.name}", f"{FOLDER}/{model.name}"
    flags = [f"--graph={graph}", f"--num_threads={threads}", f"--num_runs={runs}", "--warmup_runs=2",
             f"--max_secs={LONGEST}", f"--use_gpu={str(gpu).lower()}"]  # fmt: skip
    try:
        adb("push", str(benchmark), tool, serial=device.serial)
        adb("push", str(model), graph, serial=device.serial)
        adb("shell", "chmod", "+x", tool, serial=device.serial)
        return parse_benchmark(adb("shell", tool, *flags, serial=device.serial))
    finally:
        with suppress(RunError):  # a lost device has been told of already
            adb("shell", "rm", "-f", graph, serial=device.serial)

"""Time a .tflite file on an Android device with LiteRT's benchmark_model, over adb.

The tool's binary for android_arm64 is available at https://ai.google.dev/edge/litert/next/benchmark. Its output ends
with statistics of the passes after the warm-up, in microseconds, as shown below. Older builds print no statistics after
``std``.

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
TIMEOUT = 3600  # maximum duration of an adb command in seconds


@dataclass(frozen=True)
class Timing:
    """Statistics of the time per pass, in milliseconds.

    Attributes:
        median: Median, or the mean if the tool does not report a median.
        low: Lower end of the spread.
        high: Upper end of the spread.
        runs: Number of timed passes.
        spread: Definition of ``low`` and ``high``. Older builds of the tool do not report percentiles.
        is_mean: Whether ``median`` is actually the mean.
    """

    median: float
    low: float
    high: float
    runs: int
    spread: str = "5th to 95th percentile"
    is_mean: bool = False


@dataclass(frozen=True)
class AndroidDevice:
    """A connected Android device.

    Attributes:
        serial: Serial number by which adb identifies the device.
        name: Manufacturer and model.
        system: Operating system and version, such as Android 15.
    """

    serial: str
    name: str
    system: str


def parse_benchmark(text: str) -> Timing:
    """Parse the output of benchmark_model.

    Raises:
        RunError: The output does not contain a timing.
    """
    summaries = re.findall(r"\bcount=(\d+)((?: \w+=[\d.e+]+)+)", text)
    if "Inference timings in us" not in text or not summaries:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        raise RunError(f"benchmark_model reported no timing; its last output was: {lines[-1] if lines else 'nothing'}")
    runs, statistics = summaries[-1]  # the first summary covers the warm-up
    us = {name: float(value) for name, value in re.findall(r"(\w+)=([\d.e+]+)", statistics)}
    current = us["curr"]  # the only statistic if there is only one pass or all passes take equally long
    middle = us.get("median", us.get("avg", current))
    low, high = us.get("p5", us.get("min", current)), us.get("p95", us.get("max", current))
    spread = Timing.spread if "p5" in us else "minimum to maximum"
    return Timing(middle / 1000, low / 1000, high / 1000, int(runs), spread, "median" not in us and "avg" in us)


def adb(*arguments: str, serial: str | None = None) -> str:
    """Run an adb command and return its output.

    Raises:
        RunError: adb is not installed, fails, or does not finish within an hour.
    """
    if shutil.which("adb") is None:
        raise RunError("adb is not installed; install Android's platform-tools")
    command = ["adb", *(["-s", serial] if serial else []), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise RunError(f"adb {arguments[0]} did not finish within {TIMEOUT // 60} minutes") from None
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise RunError(f"adb {arguments[0]} failed: {lines[-1] if lines else f'status {result.returncode}'}")
    return result.stdout + result.stderr


def find_device(serial: str | None = None) -> AndroidDevice:
    """Find the connected device, or the device with the given serial number.

    Raises:
        RunError: No device is connected, several are connected and ``serial`` is not set, or the device is not ready.
    """
    lines = adb("devices").partition("List of devices attached")[2].splitlines()
    states = dict(line.split()[:2] for line in lines if len(line.split()) >= 2)
    if not states:
        raise RunError("no Android device is connected; enable USB debugging on the device and connect it")
    if serial is None and len(states) > 1:
        raise RunError(
            f"several Android devices are connected; set litert.serial to one of {', '.join(sorted(states))}"
        )
    chosen = serial or next(iter(states))
    if states.get(chosen) != "device":
        state = states.get(chosen, f"not connected; connected devices: {', '.join(sorted(states))}")
        raise RunError(f"Android device {chosen} is {state}")

    def read_property(name: str) -> str:
        return adb("shell", "getprop", name, serial=chosen).strip()

    model = f"{read_property('ro.product.manufacturer')} {read_property('ro.product.model')}"
    return AndroidDevice(chosen, model, f"Android {read_property('ro.build.version.release')}")


def measure(
    model: Path, benchmark: Path, device: AndroidDevice, threads: int = 4, runs: int = 20, gpu: bool = False
) -> Timing:
    """Push the model and the tool to the device, run the tool, and remove the model from the device.

    Args:
        model: Path of the .tflite file.
        benchmark: Path of the benchmark_model binary for the device's processor.
        device: Device to run on.
        threads: Number of CPU threads.
        runs: Number of timed passes.
        gpu: Whether to run supported operations on the GPU, in fp16.

    Raises:
        RunError: A file is missing, or adb or the tool fails.
    """
    for file in (model, benchmark):
        if not file.is_file():
            raise RunError(f"{file}: no such file")
    tool, graph = f"{FOLDER}/{benchmark.name}", f"{FOLDER}/{model.name}"
    flags = [f"--graph={graph}", f"--num_threads={threads}", f"--num_runs={runs}", "--warmup_runs=2",
             f"--max_secs={TIMEOUT}", f"--use_gpu={str(gpu).lower()}"]  # fmt: skip
    try:
        adb("push", str(benchmark), tool, serial=device.serial)
        adb("push", str(model), graph, serial=device.serial)
        adb("shell", "chmod", "+x", tool, serial=device.serial)
        return parse_benchmark(adb("shell", tool, *flags, serial=device.serial))
    finally:
        with suppress(RunError):  # if the connection is lost, an error has already been raised
            adb("shell", "rm", "-f", graph, serial=device.serial)

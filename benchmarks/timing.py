"""Measurement tools that the benchmarks share: alternating timings, paired ratios, and peak memory.

A machine's speed varies with its clock frequency and its load. Calls that are timed alternately run under the same
conditions, so ratios are computed between neighboring measurements, and the median of these ratios is reported.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tabulate import tabulate

from pocketdit.files import write_atomically
from pocketdit.memory import peak_bytes

Seconds = list[float]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Ratio:
    """The median, minimum and maximum of several ratios."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Compute the ratios of two alternately measured series, pair by pair."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def mean_seconds(call: Callable[[], object], repeats: int = 1) -> float:
    """Return the mean duration in seconds of ``repeats`` calls, including work queued on the GPU."""
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronize()
    return (time.perf_counter() - start) / repeats


def time_alternately(
    calls: Mapping[str, Call],
    rounds: int,
    *,
    warmup: int = 1,
    at_least: float = 0.0,
    measure: Callable[[Call, int], float] = mean_seconds,
) -> dict[str, Seconds]:
    """Time several calls in rounds, each of which measures every call once.

    Args:
        calls: Mapping from name to call.
        rounds: Number of measurements per call.
        warmup: Number of rounds before the first measurement.
        at_least: Minimum duration of a measurement in seconds. A shorter call is repeated until it takes this long.
        measure: Function that returns a call's mean duration in seconds, given the call and the number of repeats.

    Returns:
        For each name, the duration of its call in seconds in each round.
    """
    for _ in range(warmup):
        for call in calls.values():
            measure(call, 1)
    repeats = {name: max(1, math.ceil(at_least / measure(call, 1))) if at_least else 1 for name, call in calls.items()}
    seconds: dict[str, Seconds] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(measure(call, repeats[name]))
    return seconds


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def default_device() -> torch.device:
    """Return the GPU if there is one, and the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> dict[str, Any]:
    """Describe the machine on which the benchmark runs."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def cpu_model() -> str:
    """Return the CPU's name from /proc/cpuinfo. On Linux, Python's ``platform`` knows only the architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class PeakMemory:
    """Measures how far this process's memory peaks above its level at construction.

    This is the memory allocated on the GPU or, if there is no GPU, the resident set.
    """

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):
            # On Linux, this resets the peak to the current resident set. Elsewhere, the peak is never reset.
            Path("/proc/self/clear_refs").write_text("5")
        self.before = peak_bytes()

    def growth(self) -> int:
        """Return the growth in bytes. Linux counts pages with a delay, so a negative difference is reported as 0."""
        return max(0, peak_bytes() - self.before)


def run_child(script: str, *arguments: str) -> Any:
    """Run a Python script in a separate process and return its last line of output, parsed as JSON."""
    command = [sys.executable, script, *arguments]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a text table with the first column aligned to the left and all others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    alignment = ["left"] + ["right"] * (len(header) - 1)
    return tabulate(cells, header, tablefmt="plain", colalign=alignment, disable_numparse=True)


def format_median(seconds: Sequence[float]) -> str:
    """Format the median of several durations in seconds for a table."""
    return f"{1000 * median(seconds):.3g} ms" if median(seconds) < 1 else f"{median(seconds):.2f} s"


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share, described by the first line of ``description``."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the result to this JSON file")
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)  # tiny sizes for the tests
    return parser


def print_machine() -> None:
    """Print one line that describes the machine."""
    info = machine()
    gpu = f", {info['gpu']}" if info["gpu"] else ""
    print(f"{info['cpu']}, {info['cores']} cores, {info['threads']} threads, torch {info['torch']}{gpu}", flush=True)


def verdict(met: bool) -> str:
    """Return "met" or "NOT met"."""
    return "met" if met else "NOT met"


def write_result(result: dict[str, Any], path: Path | None) -> None:
    """Write the result and a description of the machine to a JSON file, unless ``path`` is None."""
    if path is not None:
        result = {"machine": machine(), **result}
        write_atomically(path, json.dumps(result, indent=1, default=asdict) + "\n")

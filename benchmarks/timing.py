"""The shared measurement: calls timed in turns, ratios of neighbours, peak memory of a process of its own.

The speed of a machine drifts with its clock and with other work on it. Two calls timed in turns meet the same
conditions, so each ratio is taken between neighbours, and the median of these ratios is the result.
"""

import argparse
import json
import math
import os
import platform
import resource
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

from pocketdit.files import write_atomically

Seconds = list[float]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Ratio:
    """Median, least and greatest of the ratios of all pairs."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def pairwise(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Ratios of two series that were measured in turns, pair by pair."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def seconds_of(call: Callable[[], object], repeats: int = 1) -> float:
    """Mean seconds of ``repeats`` calls, work queued on a GPU included."""
    synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronize()
    return (time.perf_counter() - began) / repeats


def alternate(
    calls: Mapping[str, Call],
    rounds: int,
    *,
    warmup: int = 1,
    at_least: float = 0.0,
    measure: Callable[[Call, int], float] = seconds_of,
) -> dict[str, Seconds]:
    """Seconds of every call in every round; a round runs each call in turn.

    ``at_least``: a call shorter than this many seconds is repeated within a measurement until it fills them;
    the seconds given back are of one call. ``measure``: seconds of a call, given how often to repeat it.
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
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def cpu_model() -> str:
    """From /proc/cpuinfo where there is one: on Linux Python itself knows no more than the architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class PeakMemory:
    """Growth of this process's memory from now to its peak: of the resident set, or of what a GPU has allocated."""

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):
            # Linux: the peak starts again from what is resident now. Elsewhere it stays that of the process.
            Path("/proc/self/clear_refs").write_text("5")
        self.before = peak_bytes()

    def growth(self) -> int:
        """Bytes; Linux counts pages with a delay, so no growth can read as a little less than none."""
        return max(0, peak_bytes() - self.before)


def peak_bytes() -> int:
    """Peak of this process so far, in bytes."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def child(script: str, *arguments: str) -> Any:
    """Run a script in a process of its own and give back the JSON of its last line."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns of text, the first to the left and the others to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def milliseconds(seconds: Sequence[float]) -> str:
    """Median, for a table."""
    return f"{1000 * median(seconds):.3g} ms" if median(seconds) < 1 else f"{median(seconds):.2f} s"


def options(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the result there as JSON")
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)  # tiny sizes, for the tests
    return parser


def announce() -> None:
    """The line that names the machine."""
    here = machine()
    gpu = f", {here['gpu']}" if here["gpu"] else ""
    print(f"{here['cpu']}, {here['cores']} cores, {here['threads']} threads, torch {here['torch']}{gpu}", flush=True)


def report(result: dict[str, Any], path: Path | None) -> None:
    """Write the result with the machine's name, where a path was asked for."""
    if path is not None:
        result = {"machine": machine(), **result}
        write_atomically(path, json.dumps(result, indent=1, default=asdict) + "\n")

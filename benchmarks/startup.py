"""Time ten common commands that should respond at once, each in its own process.

    python -m benchmarks.startup [--rounds N] [--json PATH]

The commands are run in rounds, and the median of each is compared with its target. The first round is not timed, so the
files are in the system's cache. On a cold machine, everything takes longer.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.timing import Ratio, argument_parser, format_median, print_machine, table, verdict, write_result

ROOT = Path(__file__).parent.parent
USAGE, PLAN = "help and incorrect use", "plan"
# Seconds within which each kind of command should respond.
TARGETS = {USAGE: 1.0, PLAN: 5.0}
DEFAULT = ROOT / "experiments" / "elastic_pretrain.yaml"


@dataclass(frozen=True)
class Command:
    """A ``lightning`` command to time.

    Attributes:
        words: The words after ``lightning``. ``DEFAULT`` is replaced by the path of the default experiment.
        status: Expected exit status.
        kind: A key of ``TARGETS``, or None for a command without a target.
    """

    words: str
    status: int = 0
    kind: str | None = USAGE


COMMANDS = (
    Command("--help"),
    Command("--version"),
    Command("run --help"),
    Command("run DEFAULT training.max_step=5", 2),
    Command("run no_such_file.yaml", 2),
    Command("sample no_such_run 'a red circle'", 1),
    Command("data validate no_such_folder", 1),
    Command("sweep --help"),
    Command("run DEFAULT --print-config", kind=None),
    Command("run DEFAULT --plan", kind=PLAN),
)
QUICK = COMMANDS[:4]


def seconds(command: Command, folder: Path) -> float:
    """Run a command in an empty folder and return its duration.

    Raises:
        RuntimeError: The command did not exit with the expected status.
    """
    words = [str(DEFAULT) if word == "DEFAULT" else word for word in shlex.split(command.words)]
    search = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "pocketdit", *words],
        cwd=folder, env=os.environ | {"PYTHONPATH": search}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    duration = time.perf_counter() - start
    if process.returncode != command.status:
        raise RuntimeError(f"lightning {command.words} exited with status {process.returncode}: {process.stderr}")
    return duration


def measure(commands: Sequence[Command], rounds: int) -> dict[str, list[float]]:
    """Return how many seconds every command took in each round, after a round that is not timed."""
    durations: dict[str, list[float]] = {command.words: [] for command in commands}
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds + 1):
            for command in commands:
                duration = seconds(command, Path(name))
                if number > 0:
                    durations[command.words].append(duration)
    return durations


def slowest(durations: Sequence[Sequence[float]]) -> Ratio:
    """Return the median and the range of the command with the largest median."""
    worst = max(durations, key=median)
    return Ratio(median(worst), min(worst), max(worst))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of timed rounds (default: 5)")
    args = parser.parse_args(arguments)
    print_machine()
    commands = QUICK if args.quick else COMMANDS
    durations = measure(commands, 1 if args.quick else args.rounds)
    rows = []
    for command in commands:
        target = TARGETS.get(command.kind or "")
        times = durations[command.words]
        met = "" if target is None else verdict(median(times) <= target)
        rows.append({"command": command.words, "seconds": times, "target": target, "met": met})
    cells = [
        [f"lightning {row['command']}", format_median(durations[str(row["command"])]),
         "" if row["target"] is None else f"{row['target']:g} s", row["met"]]
        for row in rows
    ]  # fmt: skip
    print(table(["command", "median", "target", ""], cells))
    result: dict[str, object] = {}
    for kind, target in TARGETS.items():
        timed = [durations[command.words] for command in commands if command.kind == kind]
        if timed:
            time_of_kind = slowest(timed)
            result[kind] = time_of_kind
            print(f"{kind}: {time_of_kind} s (at most {target:g} s): {verdict(time_of_kind.median <= target)}")
    all_met = all(row["met"] != verdict(False) for row in rows)
    write_result({"benchmark": "startup", "rows": rows, "met": all_met, **result}, args.json)


if __name__ == "__main__":
    main()

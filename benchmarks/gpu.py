"""Run all checks and measurements that need a GPU, in less than eight minutes.

    python -m benchmarks.gpu [--out FOLDER]

The parts are the tests marked ``gpu``, the training step with and without ``torch.compile``, ASSA and FlashAttention at
4096 and 16384 tokens, and the peak memory of a short run compared with the estimate of ``lightning run --plan``. Each
part runs in a separate process with a time limit, so that the other parts run even if one hangs or fails. The results
are written to FOLDER, and the exit status is 1 if a part fails. Without a GPU, only ``--quick`` is useful: it runs the
parts at tiny sizes on the CPU. This program has not been run on a GPU yet.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import argument_parser, default_device, print_machine, table

ROOT = Path(__file__).parent.parent
TIME_LIMIT = 8 * 60.0


@dataclass(frozen=True)
class Part:
    """A check or measurement that runs in a separate process.

    Attributes:
        name: Name of the part and of its output file.
        words: Arguments for the Python interpreter.
        seconds: Time limit in seconds.
        on_cpu: Whether the part can run without a GPU.
    """

    name: str
    words: tuple[str, ...]
    seconds: float
    on_cpu: bool = True


STEP = ("-m", "benchmarks.training_step", "--experiment", "elastic_pretrain")
PARTS = (
    Part("tests", ("-m", "pytest", "-q", "-m", "gpu", "tests/gpu"), 120),
    Part("attention", ("-m", "benchmarks.attention"), 60),
    Part("step", STEP, 60),
    Part("memory", ("-m", "benchmarks.plan_memory", "--experiment", "elastic_pretrain"), 60),
    Part("step_compiled", (*STEP, "training.compile=true"), 170, on_cpu=False),
)


def run_part(part: Part, quick: bool, out: Path) -> tuple[str, float]:
    """Run a part, and write its output to a file in ``out``.

    Returns:
        The outcome, and the duration in seconds.
    """
    options = (
        [] if part.name == "tests" else ["--json", str(out / f"{part.name}.json"), *(["--quick"] if quick else [])]
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])}
    start = time.perf_counter()
    with (out / f"{part.name}.txt").open("w") as output:
        try:
            status = subprocess.run(
                [sys.executable, *part.words, *options],
                cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=part.seconds,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return "stopped at its time limit", time.perf_counter() - start
    return "ok" if status == 0 else f"failed with status {status}", time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts and print a table of their outcomes."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("bench/gpu"), help="folder for the results (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    print_machine()
    args.out.mkdir(parents=True, exist_ok=True)
    has_gpu = default_device().type == "cuda"
    if not (has_gpu or args.quick):
        print("this machine has no GPU that torch can use; try --quick", file=sys.stderr)
        return 2
    rows = []
    for part in PARTS:
        ended, seconds = run_part(part, args.quick, args.out) if has_gpu or part.on_cpu else ("needs a GPU", 0.0)
        rows.append([part.name, ended, f"{seconds:.0f} s", str(args.out / f"{part.name}.txt")])
        print(f"{part.name}: {ended}", flush=True)
    print(table(["part", "result", "time", "output"], rows))
    return int(any(row[1] not in ("ok", "needs a GPU") for row in rows))


if __name__ == "__main__":
    sys.exit(main())

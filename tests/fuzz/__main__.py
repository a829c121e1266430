"""Runs the fuzzers.

python -m tests.fuzz [--seed 0] [--only FUZZER] [--full | --count 100 | --case NUMBER] [--verbose]
"""

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

# Cases run in forked processes, and OpenMP threads do not survive a fork.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

from pocketdit.export.coreml.dependency import silence_coremltools
from pocketdit.tracking.mlflow_run import import_mlflow
from tests.fuzz.driver import run_case, run_cases
from tests.fuzz.fuzzer import Fuzzer, preparation
from tests.fuzz.fuzzers import FUZZERS

# Commands import these modules on demand. Cases start faster if the parent process has already imported the modules.
PRELOADED = (
    "evaluation.evaluate",
    "evaluation.subjects.run",
    "mlflow.store.tracking.sqlalchemy_store",
    "pocketdit.export.coreml.export",
    "pocketdit.running.cost_estimate",
    "pocketdit.running.fit",
    "sweeps.engine.study",
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (default: %(default)s)")
    parser.add_argument("--only", choices=FUZZERS, nargs="+", help="run only these fuzzers")
    parser.add_argument("--full", action="store_true", help="run the full number of slow cases")
    parser.add_argument("--count", type=int, help="cases per fuzzer (default: set by each fuzzer)")
    parser.add_argument("--case", type=int, help="run only the case with this number")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="parallel cases (default: number of CPU cores)"
    )
    parser.add_argument("--verbose", action="store_true", help="also print the cases that pass")
    return parser.parse_args()


def numbers_of(fuzzer: Fuzzer, args: argparse.Namespace) -> range:
    """Return the numbers of the cases to run."""
    if args.case is not None:
        return range(args.case, args.case + 1)
    if args.count is not None:
        return range(args.count)
    return range((fuzzer.full_count or fuzzer.count) if args.full else fuzzer.count)


def main() -> int:
    args = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as with Ctrl-C, running cases are killed
    silence_coremltools()
    import_mlflow()
    for module in PRELOADED:
        importlib.import_module(module)
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        prepared: dict[Callable[[Path], None], Path] = {}
        for fuzzer in [FUZZERS[name] for name in args.only or FUZZERS]:
            start = time.perf_counter()
            shared = Path(temporary)
            if fuzzer.prepare is not None:
                if fuzzer.prepare not in prepared:
                    prepared[fuzzer.prepare] = Path(tempfile.mkdtemp(dir=temporary))
                    outcome = run_case(preparation(fuzzer.prepare, prepared[fuzzer.prepare]))
                    if not outcome.passed:
                        print(outcome)
                        return 1
                shared = prepared[fuzzer.prepare]
            numbers = numbers_of(fuzzer, args)
            print(f"{fuzzer.name}: {len(numbers)} cases", flush=True)
            outcomes = run_cases(fuzzer.cases(args.seed, numbers, shared), args.jobs, args.verbose)
            verdicts = Counter(outcome.verdict for outcome in outcomes)
            counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
            print(f"{fuzzer.name}: {len(outcomes)} cases in {time.perf_counter() - start:.0f} s: {counts}", flush=True)
            failed += verdicts["failed"]
    print(f"{failed} failed" if failed else "no case failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

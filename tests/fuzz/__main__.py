"""Run the fuzzers.

python -m tests.fuzz [--seed 0] [--only FUZZER] [--count 100 | --case NUMBER] [--verbose]
"""

import argparse
import os
import sys
import time
from collections import Counter

os.environ.setdefault("OMP_NUM_THREADS", "1")  # cases run in parallel, and forked processes cannot share threads

from tests.fuzz.data_sets import DATA_SETS
from tests.fuzz.driver import run_cases
from tests.fuzz.image_folders import IMAGE_FOLDERS
from tests.fuzz.overrides import OVERRIDES
from tests.fuzz.plans import PLANS
from tests.fuzz.yaml_files import YAML_FILES

FUZZERS = {fuzzer.name: fuzzer for fuzzer in (DATA_SETS, IMAGE_FOLDERS, OVERRIDES, PLANS, YAML_FILES)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (default: %(default)s)")
    parser.add_argument("--only", choices=FUZZERS, help="run only this fuzzer")
    parser.add_argument("--count", type=int, help="cases per fuzzer (default: its own number)")
    parser.add_argument("--case", type=int, help="run only the case with this number")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at a time (default: the CPU cores)")
    parser.add_argument("--verbose", action="store_true", help="print the cases that pass as well")
    args = parser.parse_args()
    failed = 0
    for fuzzer in [FUZZERS[args.only]] if args.only else FUZZERS.values():
        start = time.perf_counter()
        numbers = range(fuzzer.count if args.count is None else args.count) if args.case is None else [args.case]
        print(f"{fuzzer.name}: {len(numbers)} cases", flush=True)
        outcomes = run_cases(fuzzer.cases(args.seed, numbers), args.jobs, args.verbose)
        verdicts = Counter(outcome.verdict for outcome in outcomes)
        counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        print(f"{fuzzer.name}: {len(outcomes)} cases in {time.perf_counter() - start:.0f} s: {counts}", flush=True)
        failed += verdicts["failed"]
    print(f"{failed} failed" if failed else "no case failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Run the fuzzers.

python -m tests.fuzz [--seed 0] [--count 100] [--only NAME]
"""

import argparse
import sys
import time

from tests.fuzz import data_sets, image_folders
from tests.fuzz.driver import run_cases

# The cases of a fuzzer are a pure function of the seed and the count.
FUZZERS = {"data_sets": data_sets.cases, "image_folders": image_folders.cases}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (default: %(default)s)")
    parser.add_argument("--count", type=int, default=100, help="cases per fuzzer (default: %(default)s)")
    parser.add_argument("--only", choices=FUZZERS, help="run only this fuzzer")
    args = parser.parse_args()
    start, failed = time.perf_counter(), []
    names = [args.only] if args.only else list(FUZZERS)
    for name in names:
        failed += run_cases(FUZZERS[name](args.seed, args.count))
    print(f"{args.count * len(names)} cases in {time.perf_counter() - start:.0f} s, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Compare the speed of the Fréchet distance between two Gaussians with that of clean-fid's implementation.

clean-fid calls scipy's sqrtm on the product of the covariances. Both implementations receive the same means and
covariances, computed from twice as many samples as dimensions, and must return the same value.

    python benchmarks/frechet.py [--json PATH]
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.timing import (
    argument_parser,
    format_median,
    paired_ratio,
    print_machine,
    table,
    time_alternately,
    verdict,
    write_result,
)
from evaluation.metrics.frechet import Floats, Gaussian, frechet_distance, statistics

REQUIRED_AT, REQUIRED = 2048, 5.0
OURS, THEIRS = "pocketdit", "clean-fid"

Moments = tuple[Floats, Floats]


def moments(dimensions: int, seed: int) -> Moments:
    """Return the mean and covariance of random features that are correlated and whose variances decay."""
    random = np.random.default_rng(seed)
    samples = random.normal(size=(2 * dimensions, dimensions)) * np.geomspace(1, 0.01, dimensions)
    mixing = random.normal(size=(dimensions, dimensions)) / math.sqrt(dimensions)
    return statistics(samples @ mixing + 0.1 * random.normal(size=dimensions))


def ours(first: Moments, second: Moments) -> float:
    """Compute the distance with this project's code."""
    return frechet_distance(Gaussian.from_moments(*first), Gaussian.from_moments(*second))


def theirs(first: Moments, second: Moments) -> float:
    """Compute the distance with clean-fid."""
    from cleanfid.fid import frechet_distance as clean_fid

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid passes a deprecated argument to sqrtm
        return float(clean_fid(*first, *second))


def compare(dimensions: int, rounds: int) -> dict[str, Any]:
    """Time both implementations alternately.

    Raises:
        RuntimeError: The implementations return different values.
    """
    pair = moments(dimensions, 0), moments(dimensions, 1)
    # At 2048 dimensions, sqrtm takes more than a minute, so a small pair warms up the libraries instead.
    small = moments(64, 0), moments(64, 1)
    values: dict[str, float] = {}
    calls = {
        OURS: lambda: values.update({OURS: ours(*pair)}),
        THEIRS: lambda: values.update({THEIRS: theirs(*pair)}),
    }
    ours(*small)
    theirs(*small)
    seconds = time_alternately(calls, rounds, warmup=0)
    if not math.isclose(values[OURS], values[THEIRS], rel_tol=1e-6):
        raise RuntimeError(
            f"{OURS} and {THEIRS} differ at {dimensions} dimensions: {values[OURS]!r} and {values[THEIRS]!r}"
        )
    return {
        "dimensions": dimensions,
        "values": values,
        "seconds": seconds,
        "ratio": paired_ratio(seconds[THEIRS], seconds[OURS]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    print_machine()
    sizes, rounds = ((128, 256), 1) if args.quick else ((1024, REQUIRED_AT), 3)
    rows = [compare(size, rounds) for size in sizes]

    cells = [
        [
            row["dimensions"],
            *(format_median(row["seconds"][name]) for name in (OURS, THEIRS)),
            row["ratio"],
            f"{abs(row['values'][OURS] / row['values'][THEIRS] - 1):.0e}",
        ]
        for row in rows
    ]
    print(table(["dimensions", OURS, THEIRS, "speedup", "relative difference"], cells), end="\n\n")
    last = rows[-1]
    met = last["ratio"].median >= REQUIRED
    print(
        f"ratio: clean-fid / ours at {last['dimensions']} dimensions = {last['ratio']} "
        f"(at least {REQUIRED} at {REQUIRED_AT}): {verdict(met)}"
    )
    write_result(
        {"benchmark": "frechet", "rows": rows, "ratio": last["ratio"], "required": REQUIRED, "met": met}, args.json
    )


if __name__ == "__main__":
    main()

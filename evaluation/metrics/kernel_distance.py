"""The kernel distance (KID; Bińkowski et al. 2018, arXiv 1801.01401): unbiased, so that it fits small sets too."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketdit.errors import UserError

Floats = NDArray[np.float64]


class KernelDistance(NamedTuple):
    """Mean and standard deviation over ``subsets`` of ``subset_size`` samples of either side."""

    mean: float
    std: float
    subsets: int
    subset_size: int


def kernel(x: Floats, y: Floats) -> Floats:
    """(x · y / D + 1)³ of every pair of x (N, D) and y (M, D): (N, M)."""
    values: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return values


def squared_mmd(x: Floats, y: Floats) -> float:
    """The unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3) of x (N, D) and y (M, D).

    No sample is compared with itself, so the value can be a little below 0.
    """
    within = [(np.sum(k) - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    return float(sum(within) - 2 * np.mean(kernel(x, y)))


def kernel_distance(
    first: ArrayLike, second: ArrayLike, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Mean of ``squared_mmd`` over random subsets of features (N, D) and (M, D), as published.

    Smaller sets make the subsets smaller; where a subset would be all of both, one is enough.

    Raises:
        UserError: fewer than 2 samples, dimensions that do not meet, or values that are not finite.
    """
    x, y = (np.asarray(features, dtype=np.float64) for features in (first, second))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UserError(f"features of shapes {x.shape} and {y.shape} do not compare; take both from one network")
    if subsets < 1 or min(len(x), len(y), subset_size) < 2:
        raise UserError(f"{len(x)} and {len(y)} pictures in {subsets} subsets of {subset_size}: at least 2 are needed")
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise UserError("features hold values that are not finite; look at the pictures and the network's weights")
    size = min(len(x), len(y), subset_size)
    random = np.random.default_rng(seed)
    count = 1 if size == len(x) == len(y) else subsets
    values = [
        squared_mmd(
            x[random.choice(len(x), size, replace=False)],
            y[random.choice(len(y), size, replace=False)],
        )
        for _ in range(count)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), count, size)

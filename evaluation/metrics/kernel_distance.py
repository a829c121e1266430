"""The kernel distance (KID; Bińkowski et al. 2018, arXiv 1801.01401), which is unbiased even for small sets."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pocketdit.errors import UserError

Floats = NDArray[np.float64]


class KernelDistance(NamedTuple):
    """Mean and standard deviation over ``subsets`` random subsets of ``subset_size`` samples from each set."""

    mean: float
    std: float
    subsets: int
    subset_size: int


def kernel(x: Floats, y: Floats) -> Floats:
    """Return (x · y / D + 1)³ for every pair of x (N, D) and y (M, D) as an (N, M) matrix."""
    values: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return values


def squared_mmd(x: Floats, y: Floats) -> float:
    """Return the unbiased squared maximum mean discrepancy (Gretton et al. 2012, Eq. 3) of x (N, D) and y (M, D).

    No sample is compared with itself, so the value can be slightly negative.
    """
    within = [(np.sum(k) - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    return float(sum(within) - 2 * np.mean(kernel(x, y)))


def kernel_distance(
    first: ArrayLike, second: ArrayLike, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Average ``squared_mmd`` over random subsets of features (N, D) and (M, D), as published.

    If a set has fewer samples than ``subset_size``, the subsets are as large as the smaller set. If a subset contains
    all samples of both sets, only one subset is used.

    Raises:
        UserError: There are fewer than 2 samples, the dimensions differ, or values are not finite.
    """
    x, y = (np.asarray(features, dtype=np.float64) for features in (first, second))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UserError(f"features of shapes {x.shape} and {y.shape} are not comparable; use the same network for both")
    if subsets < 1 or min(len(x), len(y), subset_size) < 2:
        raise UserError(
            f"kernel distance of {len(x)} and {len(y)} images in {subsets} subsets of {subset_size}: "
            "at least 2 images per subset are needed"
        )
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise UserError("features are not finite; check the images and the network's weights")
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

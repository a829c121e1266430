"""One-dimensional k-means over the values of a tensor in fp16.

fp16 has at most 65,536 values, so their counts are all that is needed, and an iteration of Lloyd's algorithm costs the
same for ten thousand weights and for ten million.

Shape letters: V distinct values in increasing order, K clusters.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Points = NDArray[np.float64]

CODES = 1 << 16
_MAX_ITERATIONS = 2000
_BINS = (64, 1024)


def fp16_codes(weight: Tensor) -> Tensor:
    """Convert each weight to fp16 and return its bits as a number in [0, 65536), int32, in the shape of ``weight``.

    Raises:
        ValueError: A weight is not finite in fp16.
    """
    half = weight.detach().half()
    if not bool(half.isfinite().all()):
        raise ValueError("a weight is not finite in fp16")
    return half.view(torch.int16).int() & (CODES - 1)


def fp16_values() -> Tensor:
    """Return the value of every code, (65536,) in float16. Some are not finite."""
    return torch.arange(CODES, dtype=torch.int32).to(torch.int16).view(torch.float16)


def count_values(codes: Tensor) -> tuple[Points, Points]:
    """Return the values that occur among the codes, in increasing order, and how often each occurs, both (V,)."""
    counts = torch.bincount(codes.flatten(), minlength=CODES).cpu().double().numpy()
    values = fp16_values().double().numpy()
    occurring = np.flatnonzero(counts)
    order = np.argsort(values[occurring], kind="stable")
    return values[occurring][order], counts[occurring][order]


def fit_centers(values: Points, counts: Points, clusters: int) -> Points:
    """Find k-means centers deterministically.

    Lloyd's algorithm starts from centers whose density is proportional to the cube root of the density of the values,
    which is optimal for many clusters (Panter and Dite 1951). The density is estimated with a coarse histogram, which
    resolves the tails, and with a fine one, which resolves the peak, and the better result is kept. Then, as long as it
    reduces the inertia, the center whose removal costs least is moved to where a center gains most, and Lloyd's
    algorithm runs again.

    Args:
        values: Distinct values (V,) in increasing order.
        counts: Weight of each value (V,).
        clusters: Number of centers K.

    Returns:
        Centers (K,) in increasing order. If V <= K, every value is a center, and the last one is repeated.
    """
    if len(values) <= clusters:
        return np.concatenate([values, np.repeat(values[-1:], clusters - len(values))])
    starts = [companded_centers(values, counts, clusters, bins) for bins in _BINS]
    centers = min((lloyd(values, counts, start) for start in starts), key=lambda c: inertia(values, counts, c))
    least = inertia(values, counts, centers)
    while clusters > 2:
        moved = lloyd(values, counts, move_one_center(values, counts, centers))
        if (now := inertia(values, counts, moved)) >= least * (1 - 1e-6):
            break
        centers, least = moved, now
    return centers


def companded_centers(values: Points, counts: Points, clusters: int, bins: int) -> Points:
    """Return quantiles of the cube root of the density, which is estimated with a histogram of ``bins`` bins."""
    histogram, edges = np.histogram(values, bins=bins, weights=counts)
    mass = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))])
    return np.interp((np.arange(clusters) + 0.5) / clusters * mass[-1], mass, edges)


def lloyd(values: Points, counts: Points, start: Points) -> Points:
    """Run Lloyd's algorithm from centers ``start`` (K,) until it converges.

    A cluster is a contiguous range of the sorted values, so its sums are differences of cumulative sums.
    """
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * values)])
    centers, previous = start, np.empty(0)
    for _ in range(_MAX_ITERATIONS):
        edges = np.concatenate([[0], np.searchsorted(values, (centers[1:] + centers[:-1]) / 2), [len(values)]])
        if np.array_equal(edges, previous):
            break
        previous = edges
        inside = mass[edges[1:]] - mass[edges[:-1]]
        means = (moment[edges[1:]] - moment[edges[:-1]]) / np.maximum(inside, 1)
        centers = np.where(inside > 0, means, centers)
    return centers


def move_one_center(values: Points, counts: Points, centers: Points) -> Points:
    """Merge the two neighboring clusters whose merger costs least, and split the cluster that gains most from it."""
    edges = np.concatenate([[0], np.searchsorted(values, (centers[1:] + centers[:-1]) / 2), [len(values)]])
    mass, moment, square = (np.concatenate([[0.0], np.cumsum(counts * values**power)]) for power in (0, 1, 2))

    def inertia_of(first: NDArray[np.int64], last: NDArray[np.int64]) -> Points:
        """Compute the inertia of ranges of values about their means."""
        total = mass[last] - mass[first]
        return square[last] - square[first] - (moment[last] - moment[first]) ** 2 / np.maximum(total, 1)

    first, last = edges[:-1], edges[1:]
    alone = inertia_of(first, last)
    merged = int(np.argmin(inertia_of(first[:-1], last[1:]) - alone[:-1] - alone[1:]))
    # Each cluster is tested with only one cut, at its center.
    cut = np.clip(np.searchsorted(values, centers), first, last)
    gain = alone - inertia_of(first, cut) - inertia_of(cut, last)
    gain[[merged, merged + 1]] = -np.inf
    divided = int(np.argmax(gain))
    ranges = ((first[divided], cut[divided]), (cut[divided], last[divided]), (first[merged], last[merged + 1]))
    means = [(moment[b] - moment[a]) / max(mass[b] - mass[a], 1) for a, b in ranges]
    return np.sort(np.concatenate([np.delete(centers, [merged, merged + 1, divided]), means]))


def inertia(values: Points, counts: Points, centers: Points) -> float:
    """Compute the sum of squared distances to the nearest center."""
    return float((counts * (values - centers[nearest(values, centers)]) ** 2).sum())


def nearest(values: Points, centers: Points) -> NDArray[np.int64]:
    """Return the index of the nearest center for each value. Centers are increasing, and ties go to the lower one."""
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, values)

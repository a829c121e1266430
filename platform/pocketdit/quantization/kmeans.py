"""One-dimensional k-means over the values of a tensor in fp16.

fp16 has at most 65,536 distinct values, so the algorithm needs only the number of times that each value occurs. An
iteration of Lloyd's algorithm then takes as long for ten thousand weights as for ten million.

Shape letters: V = distinct values in increasing order, K = clusters.
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
    """Convert each weight to fp16 and return its bit pattern, an int32 in [0, 65536), in the shape of ``weight``.

    Raises:
        ValueError: A weight is not finite in fp16.
    """
    half = weight.detach().half()
    if not bool(half.isfinite().all()):
        raise ValueError("a weight is not finite in fp16")
    return half.view(torch.int16).int() & (CODES - 1)


def fp16_values() -> Tensor:
    """Return the float16 value of every code, (65536,). Some values are not finite."""
    return torch.arange(CODES, dtype=torch.int32).to(torch.int16).view(torch.float16)


def count_values(codes: Tensor) -> tuple[Points, Points]:
    """Return the distinct values of the codes in increasing order and the count of each value, both (V,)."""
    counts = torch.bincount(codes.flatten(), minlength=CODES).cpu().double().numpy()
    values = fp16_values().double().numpy()
    occurring = np.flatnonzero(counts)
    order = np.argsort(values[occurring], kind="stable")
    return values[occurring][order], counts[occurring][order]


def fit_centers(values: Points, counts: Points, clusters: int) -> Points:
    """Find k-means centers with a deterministic algorithm.

    Lloyd's algorithm starts from centers whose density is proportional to the cube root of the density of the values,
    which is optimal for many clusters (Panter and Dite 1951). The density is estimated with a coarse histogram, which
    resolves the tails, and with a fine histogram, which resolves the peak. The better result is kept. Then the two
    neighboring clusters that are cheapest to merge are merged, another cluster that benefits most from being split is
    split, and Lloyd's algorithm runs again. This is repeated as long as it reduces the inertia.

    Args:
        values: Distinct values (V,) in increasing order.
        counts: Number of occurrences of each value (V,).
        clusters: Number of centers K.

    Returns:
        Centers (K,) in increasing order. If V <= K, every value is a center, and the last center is repeated.
    """
    if len(values) <= clusters:
        return np.concatenate([values, np.repeat(values[-1:], clusters - len(values))])
    starts = [companded_centers(values, counts, clusters, bins) for bins in _BINS]
    centers = min((lloyd(values, counts, start) for start in starts), key=lambda c: inertia(values, counts, c))
    least = inertia(values, counts, centers)
    while clusters > 2:
        moved = lloyd(values, counts, move_one_center(values, counts, centers))
        moved_inertia = inertia(values, counts, moved)
        if moved_inertia >= least * (1 - 1e-6):
            break
        centers, least = moved, moved_inertia
    return centers


def companded_centers(values: Points, counts: Points, clusters: int, bins: int) -> Points:
    """Return centers whose density is proportional to the cube root of a histogram with ``bins`` bins."""
    histogram, edges = np.histogram(values, bins=bins, weights=counts)
    mass = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))])
    centers: Points = np.interp((np.arange(clusters) + 0.5) / clusters * mass[-1], mass, edges)
    return centers


def lloyd(values: Points, counts: Points, start: Points) -> Points:
    """Run Lloyd's algorithm from the centers ``start`` (K,) until it converges.

    A cluster is a contiguous range of the sorted values, so a sum over a cluster is a difference of cumulative sums.
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
    """Merge the two neighboring clusters that are cheapest to merge, and split the cluster that benefits most."""
    edges = np.concatenate([[0], np.searchsorted(values, (centers[1:] + centers[:-1]) / 2), [len(values)]])
    mass, moment, square = (np.concatenate([[0.0], np.cumsum(counts * values**power)]) for power in (0, 1, 2))

    def range_inertia(first: NDArray[np.int64], last: NDArray[np.int64]) -> Points:
        """Compute the inertia of ranges of values about their means."""
        total = mass[last] - mass[first]
        result: Points = square[last] - square[first] - (moment[last] - moment[first]) ** 2 / np.maximum(total, 1)
        return result

    first, last = edges[:-1], edges[1:]
    before = range_inertia(first, last)
    merged = int(np.argmin(range_inertia(first[:-1], last[1:]) - before[:-1] - before[1:]))
    # Clusters are split only at their centers.
    cut = np.clip(np.searchsorted(values, centers), first, last)
    gain = before - range_inertia(first, cut) - range_inertia(cut, last)
    gain[[merged, merged + 1]] = -np.inf
    divided = int(np.argmax(gain))
    ranges = ((first[divided], cut[divided]), (cut[divided], last[divided]), (first[merged], last[merged + 1]))
    means = [(moment[b] - moment[a]) / max(mass[b] - mass[a], 1) for a, b in ranges]
    return np.sort(np.concatenate([np.delete(centers, [merged, merged + 1, divided]), means]))


def inertia(values: Points, counts: Points, centers: Points) -> float:
    """Compute the sum of squared distances to the nearest center."""
    return float((counts * (values - centers[nearest(values, centers)]) ** 2).sum())


def nearest(values: Points, centers: Points) -> NDArray[np.int64]:
    """Return the index of the nearest center for each value. Centers must increase, and ties go to the lower center."""
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, values)

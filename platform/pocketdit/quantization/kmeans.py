"""One-dimensional k-means over a tensor's values in fp16, where there are 65 536 at most: their counts are enough.

So a step of Lloyd's algorithm costs the same for ten thousand weights and for ten million.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Points = NDArray[np.float64]

CODES = 1 << 16
_MOST_STEPS = 2000
_BINS = (64, 1024)


def codes(weight: Tensor) -> Tensor:
    """Number of each value among all of fp16, in [0, 65536); the shape of ``weight``, int32.

    Raises ``ValueError`` where a value is not finite in fp16.
    """
    half = weight.detach().half()
    if not bool(half.isfinite().all()):
        raise ValueError("a weight is not finite in fp16")
    return half.view(torch.int16).int() & (CODES - 1)


def all_values() -> Tensor:
    """The value of every code, (65536,) in float16; some are not finite."""
    return torch.arange(CODES, dtype=torch.int32).to(torch.int16).view(torch.float16)


def counted(numbers: Tensor) -> tuple[Points, Points]:
    """The values that occur among codes, rising, and how often each does."""
    counts = torch.bincount(numbers.flatten(), minlength=CODES).cpu().double().numpy()
    values = all_values().double().numpy()
    found = np.flatnonzero(counts)
    order = np.argsort(values[found], kind="stable")
    return values[found][order], counts[found][order]


def centres(values: Points, counts: Points, clusters: int) -> Points:
    """k-means centres, rising, (clusters,). ``values``: rising, ``counts``: the weight of each.

    Lloyd's algorithm from starts without chance: centres as dense as the cube root of the values' density, which is
    the optimum for many clusters (Panter and Dite 1951), by a coarse histogram, which sees the tails, and by a fine
    one, which sees the peak. Then, as long as it helps, the centre that is least missed
    moves to where one is most wanted, and Lloyd's algorithm goes on. With no more values than clusters each is a
    centre, and the last repeats.
    """
    if len(values) <= clusters:
        return np.concatenate([values, np.repeat(values[-1:], clusters - len(values))])
    starts = [companded(values, counts, clusters, bins) for bins in _BINS]
    centre = min((lloyd(values, counts, start) for start in starts), key=lambda c: inertia(values, counts, c))
    least = inertia(values, counts, centre)
    while clusters > 2:
        moved = lloyd(values, counts, move_one(values, counts, centre))
        if (now := inertia(values, counts, moved)) >= least * (1 - 1e-6):
            break
        centre, least = moved, now
    return centre


def companded(values: Points, counts: Points, clusters: int, bins: int) -> Points:
    """Quantiles of the cube root of the density, from a histogram of so many bins."""
    histogram, edges = np.histogram(values, bins=bins, weights=counts)
    mass = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))])
    return np.interp((np.arange(clusters) + 0.5) / clusters * mass[-1], mass, edges)


def lloyd(values: Points, counts: Points, start: Points) -> Points:
    """Lloyd's algorithm to its end. A cluster is a run of the rising values, so its sums are differences of two."""
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * values)])
    centre, before = start, np.empty(0)
    for _ in range(_MOST_STEPS):
        edges = np.concatenate([[0], np.searchsorted(values, (centre[1:] + centre[:-1]) / 2), [len(values)]])
        if np.array_equal(edges, before):
            break
        before = edges
        inside = mass[edges[1:]] - mass[edges[:-1]]
        means = (moment[edges[1:]] - moment[edges[:-1]]) / np.maximum(inside, 1)
        centre = np.where(inside > 0, means, centre)
    return centre


def move_one(values: Points, counts: Points, centre: Points) -> Points:
    """One centre taken from the two neighbours that cost least as one, given to the cluster that gains most as two."""
    edges = np.concatenate([[0], np.searchsorted(values, (centre[1:] + centre[:-1]) / 2), [len(values)]])
    mass, moment, square = (np.concatenate([[0.0], np.cumsum(counts * values**power)]) for power in (0, 1, 2))

    def spread(first: NDArray[np.int64], last: NDArray[np.int64]) -> Points:
        """Inertia of runs of values about their means."""
        of = mass[last] - mass[first]
        return square[last] - square[first] - (moment[last] - moment[first]) ** 2 / np.maximum(of, 1)

    first, last = edges[:-1], edges[1:]
    alone = spread(first, last)
    merged = int(np.argmin(spread(first[:-1], last[1:]) - alone[:-1] - alone[1:]))
    # Of a cluster's cuts the one at its mean stands for all.
    cut = np.clip(np.searchsorted(values, centre), first, last)
    gain = alone - spread(first, cut) - spread(cut, last)
    gain[[merged, merged + 1]] = -np.inf
    divided = int(np.argmax(gain))
    runs = ((first[divided], cut[divided]), (cut[divided], last[divided]), (first[merged], last[merged + 1]))
    means = [(moment[b] - moment[a]) / max(mass[b] - mass[a], 1) for a, b in runs]
    return np.sort(np.concatenate([np.delete(centre, [merged, merged + 1, divided]), means]))


def inertia(values: Points, counts: Points, centre: Points) -> float:
    """Sum of squared distances to the nearest centre."""
    return float((counts * (values - centre[nearest(values, centre)]) ** 2).sum())


def nearest(values: Points, centre: Points) -> NDArray[np.int64]:
    """Index of the nearest of rising centres, the lower of two equally near."""
    return np.searchsorted((centre[1:] + centre[:-1]) / 2, values)

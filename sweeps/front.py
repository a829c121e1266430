"""Which of several points are best under several objectives."""

from collections.abc import Sequence


def front(points: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """Indices of the points that no other one is better than, in the order given.

    ``directions``: "minimize" or "maximize" of every objective. Of equal points all are in it.
    """
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    lower = [[sign * value for sign, value in zip(signs, point, strict=True)] for point in points]
    return [i for i, point in enumerate(lower) if not any(_dominates(other, point) for other in lower)]


def best_first(points: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """All indices, best first: the front, then the front of the rest, and so on; within one by crowding distance
    (Deb et al. 2002, "NSGA-II"), which puts the ends first, so that a cut leaves it spread out."""
    left, order = list(range(len(points))), []
    while left:
        here = [left[i] for i in front([points[i] for i in left], directions)]
        distance = _crowding([points[i] for i in here])
        order += [i for _, i in sorted(zip(distance, here, strict=True), key=lambda pair: (-pair[0], pair[1]))]
        left = [i for i in left if i not in here]
    return order


def _dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def _crowding(points: Sequence[Sequence[float]]) -> list[float]:
    """Of every point the distance between its neighbours, summed over the objectives, each scaled to the range."""
    distance = [0.0] * len(points)
    for objective in range(len(points[0])):
        values = [point[objective] for point in points]
        order = sorted(range(len(points)), key=values.__getitem__)
        distance[order[0]] = distance[order[-1]] = float("inf")
        span = values[order[-1]] - values[order[0]]
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            distance[here] += (values[after] - values[before]) / span if span else 0.0
    return distance

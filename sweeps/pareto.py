"""Pareto fronts and rankings of points with several objectives."""

from collections.abc import Sequence


def pareto_front(points: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """Return the indices of the points that no other point dominates, in ascending order.

    Args:
        points: Values of all objectives for each point. Equal points do not dominate each other.
        directions: "minimize" or "maximize" for each objective.
    """
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    losses = [[sign * value for sign, value in zip(signs, point, strict=True)] for point in points]
    return [i for i, loss in enumerate(losses) if not any(_dominates(other, loss) for other in losses)]


def rank(points: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """Return all indices, best first.

    Points are sorted by non-domination: first the front, then the front of the remaining points, and so on. Within a
    front, points are sorted by decreasing crowding distance (NSGA-II, Deb et al. 2002). This puts the extremes first,
    so a truncated ranking still spans the front.
    """
    remaining, order = list(range(len(points))), []
    while remaining:
        front = [remaining[i] for i in pareto_front([points[i] for i in remaining], directions)]
        distances = _crowding_distances([points[i] for i in front])
        order += [i for _, i in sorted(zip(distances, front, strict=True), key=lambda pair: (-pair[0], pair[1]))]
        remaining = [i for i in remaining if i not in front]
    return order


def _dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def _crowding_distances(points: Sequence[Sequence[float]]) -> list[float]:
    """Return, for each point, the normalized distance between its two neighbors, summed over the objectives."""
    distances = [0.0] * len(points)
    for objective in range(len(points[0])):
        values = [point[objective] for point in points]
        order = sorted(range(len(points)), key=values.__getitem__)
        distances[order[0]] = distances[order[-1]] = float("inf")
        span = values[order[-1]] - values[order[0]]
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            distances[here] += (values[after] - values[before]) / span if span else 0.0
    return distances

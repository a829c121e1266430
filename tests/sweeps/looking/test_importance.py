"""Shares of variance on a function that is known."""

import itertools

from sweeps.looking.importance import shares
from sweeps.looking.shown import Axis, Point, Shown


def study(points: list[Point]) -> Shown:
    return Shown("s", (Axis("a"), Axis("b", "ms")), tuple(points))


def test_the_choice_that_decides_an_objective_has_nearly_all_of_it() -> None:
    grid = itertools.product([1, 2, 4, 8], [0.1, 0.2, 0.3], ["x", "y"])
    points = [
        Point(i, (float(blocks), rate), {"blocks": blocks, "rate": rate, "idle": idle, "same": 1})
        for i, (blocks, rate, idle) in enumerate(grid)
    ]
    found = shares(study(points))
    assert found["a"]["blocks"] > 0.9 and found["b (ms)"]["rate"] > 0.9
    assert max(found["a"]["idle"], found["b (ms)"]["idle"]) < 0.05 and "same" not in found["a"]


def test_a_choice_that_is_not_always_made_counts() -> None:
    """Optuna's own default would leave it out, for it is not in every trial."""
    points = [Point(i, (5.0, 5.0), {"kind": "full"}) for i in range(8)]
    points += [Point(8 + i, (float(i % 4), 1.0), {"kind": "assa", "radius": i % 4}) for i in range(16)]
    assert shares(study(points))["a"]["radius"] > 0.3


def test_too_few_results_have_no_shares() -> None:
    few = [Point(i, (float(i), 1.0), {"blocks": i}) for i in range(7)]
    broken = [Point(9 + i, (float(i), 1.0), {"blocks": i}, broken=("x",)) for i in range(7)]
    assert shares(study(few + broken)) == {}

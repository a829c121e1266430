"""Tests for the order of the best candidates."""

from dataclasses import replace

import pytest

from sweeps.objectives import Direction, Logged
from sweeps.settings import Sweep
from sweeps.storage.results import Candidate, best_candidates


def candidate(number: int, *values: float) -> Candidate:
    return Candidate(number, "complete", {}, values, steps=100, seeds=(0,))


@pytest.mark.parametrize(("direction", "order"), [("minimize", [0, 1, 2]), ("maximize", [2, 1, 0])])
def test_the_best_in_the_first_objective_is_first(sweep: Sweep, direction: Direction, order: list[int]) -> None:
    """Sorting a maximized objective in ascending order would suggest the worst trial on the front."""
    first = Logged("logged", "score", direction)
    second = Logged("logged", "cost", direction)
    study = replace(sweep, objectives={"first": first, "second": second})
    front = [candidate(0, 1.0, 3.0), candidate(1, 2.0, 2.0), candidate(2, 3.0, 1.0)]
    assert [best.number for best in best_candidates(study, front)] == order
    assert [best.number for best in best_candidates(replace(sweep, objectives={"first": first}), [
        candidate(0, 1.0), candidate(1, 2.0), candidate(2, 3.0)
    ])] == order[:1]  # fmt: skip

"""What pictures show is what the storage holds: budgets apart, the front, constraints in words."""

from pathlib import Path

import pytest

from sweeps.looking.read import read
from sweeps.looking.report import report
from sweeps.settings import Sweep
from sweeps.store import Store


def test_the_search_compares_all_trials_at_the_first_budget(sweep: Sweep, store: Store) -> None:
    search = read(sweep, store).search
    assert {p.number: p.values for p in search.results} == {
        0: (0.50, 1.9), 1: (0.52, 1.2), 2: (0.60, 1.0), 4: (0.70, 1.6),
    }  # fmt: skip
    assert [p.number for p in search.front] == [0, 1, 2]
    assert "100 steps" in search.title and all(not p.spread for p in search.points)


def test_the_front_is_of_those_that_went_furthest_with_the_most_seeds(sweep: Sweep, store: Store) -> None:
    furthest = read(sweep, store).furthest
    assert [(p.number, p.rank) for p in furthest.front] == [(1, 1), (2, 2)]
    first = furthest.front[0]
    assert first.values == (pytest.approx(0.43), pytest.approx(1.2))
    assert first.spread == (pytest.approx(0.02 / 2**0.5), 0.0)
    assert "200 steps, mean of 2 seeds" in furthest.title
    assert {p.number for p in furthest.points} == {1, 2, 3}


def test_axes_have_units_and_plain_names(sweep: Sweep, store: Store) -> None:
    assert [a.label for a in read(sweep, store).search.axes] == [
        "validation loss, lower is better", "arithmetic (GFLOP), lower is better",
    ]  # fmt: skip


def test_a_refused_trial_has_its_place_where_the_constraint_is_on_an_objective(sweep: Sweep, store: Store) -> None:
    [refused] = read(sweep, store).search.broken
    assert refused.values == (None, 2.5) and refused.number == 3
    assert refused.broken == ("most arithmetic 2.5, at most 2 GFLOP",)


def test_the_pictures_of_a_study(sweep: Sweep, store: Store) -> None:
    names = sorted(p.name for p in report(sweep, store))
    # Four results are too few for shares of variance, so there is no picture of them.
    assert names == ["parallel.png", "pareto.png", "slices.png", "study.html"]
    assert sorted(p.name for p in sweep.folder.iterdir()) == names


def test_a_study_without_results_has_no_pictures(sweep: Sweep) -> None:
    assert report(sweep, Store(sweep)) == [] and not Path(sweep.folder).exists()

"""Tests that views for plots match the contents of the storage: separate budgets, the front, and constraints."""

from pathlib import Path

import pytest

from sweeps.plots.read import read_views
from sweeps.plots.report import write_plots
from sweeps.settings import Sweep
from sweeps.storage.store import Store


def test_search_view_compares_all_trials_at_the_first_budget(sweep: Sweep, store: Store) -> None:
    search = read_views(sweep, store).search
    assert {p.number: p.values for p in search.results} == {
        0: (0.50, 1.9), 1: (0.52, 1.2), 2: (0.60, 1.0), 4: (0.70, 1.6),
    }  # fmt: skip
    assert [p.number for p in search.front] == [0, 1, 2]
    assert "100 steps" in search.title
    assert all(not p.spread for p in search.points)


def test_final_view_compares_trials_with_the_longest_budget_and_the_most_seeds(sweep: Sweep, store: Store) -> None:
    final = read_views(sweep, store).final
    assert [(p.number, p.rank) for p in final.front] == [(1, 1), (2, 2)]
    first = final.front[0]
    assert first.values == pytest.approx((0.43, 1.2))
    assert first.spread == pytest.approx((0.02 / 2**0.5, 0.0))
    assert "200 steps, mean of 2 seeds" in final.title
    assert {p.number for p in final.points} == {1, 2, 3}


def test_axes_have_units_and_readable_names(sweep: Sweep, store: Store) -> None:
    assert [a.label for a in read_views(sweep, store).search.axes] == [
        "validation loss, lower is better", "arithmetic (GFLOP), lower is better",
    ]  # fmt: skip


def test_infeasible_trial_has_a_value_for_the_constrained_objective(sweep: Sweep, store: Store) -> None:
    [infeasible] = read_views(sweep, store).search.infeasible
    assert infeasible.values == (None, 2.5)
    assert infeasible.number == 3
    assert infeasible.violations == ("most arithmetic 2.5, at most 2 GFLOP",)


def test_page_and_plots_are_written(sweep: Sweep, store: Store) -> None:
    names = sorted(p.name for p in write_plots(sweep, store))
    # There is no importance plot, because importances require at least eight results.
    assert names == ["parallel.png", "pareto.png", "slices.png", "study.html"]
    assert sorted(p.name for p in sweep.folder.iterdir()) == names


def test_study_without_results_has_no_plots(sweep: Sweep) -> None:
    assert write_plots(sweep, Store(sweep)) == []
    assert not Path(sweep.folder).exists()

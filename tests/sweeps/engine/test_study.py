"""Tests for complete studies that run in the test process."""

from pathlib import Path
from typing import Any

import pytest

from pocketdit.config.load import Loaded
from pocketdit.errors import ConfigError, RunError, RunInterruptedError
from sweeps.engine import study
from sweeps.engine.lock import lock
from sweeps.settings import Sweep
from sweeps.storage.records import TrialRecord
from sweeps.storage.results import Candidate, best_candidates, load_candidates
from sweeps.storage.store import Store
from tests.sweeps.sleeping import Sleep
from tests.sweeps.study import loaded, no_plots


@pytest.fixture(autouse=True)
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable MLflow, which takes seconds to respond. ``test_training.py`` covers it."""
    monkeypatch.setattr("sweeps.engine.parent_run.ParentRun.run_id", lambda self: None)
    monkeypatch.setattr("pocketdit.tracking.logger.Shipper.start", lambda self: None)
    monkeypatch.setattr("pocketdit.tracking.logger.Shipper.close", lambda self, timeout: 0)


def run(sweep: Loaded[Sweep]) -> Store:
    return study.run(sweep, no_plots)


def run_candidates(sweep: Loaded[Sweep]) -> list[Candidate]:
    return load_candidates(sweep.config, run(sweep))


def numeric_param(trial: Candidate | TrialRecord, name: str) -> float:
    """Return the value of a trial's numeric parameter."""
    value = trial.params[name]
    assert isinstance(value, int | float)
    return value


def learning_rate(trial: Candidate | TrialRecord) -> float:
    return numeric_param(trial, "optimizer.init_args.lr")


def validations(folder: Path) -> list[str]:
    """Return a line such as ``trial-0003 10`` for every validation of every trial, in order."""
    lines = (folder / "runs" / "s" / "validations").read_text().splitlines()
    return [line.rpartition(" ")[0] for line in lines]  # drop the process ID


@pytest.mark.parametrize("kind", ["tpe", "nsga2", "gp", "random"])
def test_every_sampler_spends_the_budget_exactly(tmp_path: Path, kind: str) -> None:
    records = run(loaded(tmp_path, sampler={"kind": kind, "startup": 3})).records(promoted=False)
    assert len(records) == 6
    assert {record.outcome for record in records} == {"complete"}
    assert sorted(validations(tmp_path)) == [f"trial-{n:04d} 10" for n in range(6)]
    assert len({record.params["optimizer.init_args.lr"] for record in records}) == 6


def test_complete_study_does_nothing_until_its_budget_is_increased(tmp_path: Path) -> None:
    run(loaded(tmp_path))
    run(loaded(tmp_path))
    assert len(validations(tmp_path)) == 6
    store = run(loaded(tmp_path, budget={"trials": 8, "steps": [10]}))
    rates = [record.params["optimizer.init_args.lr"] for record in store.records(promoted=False)]
    assert len(validations(tmp_path)) == 8
    assert len(set(rates)) == 8


def test_promoted_trials_resume_and_finalists_are_repeated_with_other_seeds(tmp_path: Path) -> None:
    budget = {"trials": 6, "steps": [10, 30], "promote": [3], "finalists": 2, "seeds": [5, 7]}
    sweep = loaded(tmp_path, budget=budget)
    by_rate = sorted(run_candidates(sweep), key=learning_rate)
    assert [candidate.steps for candidate in by_rate] == [30, 30, 30, 10, 10, 10]
    lines = validations(tmp_path)
    first = f"trial-{by_rate[0].number:04d}"
    assert [line for line in lines if line.startswith(f"{first} ")] == [f"{first} {s}" for s in (10, 20, 30)]
    assert [line for line in lines if line.startswith(f"{first}-seed-7 ")] == [
        f"{first}-seed-7 {s}" for s in (10, 20, 30)
    ]
    assert len(lines) == 6 + 3 * 2 + 2 * 2 * 3
    (winner,) = best_candidates(sweep.config, by_rate)
    assert winner.number == by_rate[0].number
    assert winner.seeds == (0, 5, 7)
    assert winner.values == pytest.approx((learning_rate(winner) + 0.004 + 1 / 30,))  # mean of seeds 0, 5 and 7
    assert winner.spread == pytest.approx((0.001 * 13**0.5,))  # standard deviation over these seeds


def test_baseline_is_trained_unchanged_and_reaches_the_last_stage(tmp_path: Path) -> None:
    budget = {"trials": 6, "steps": [10, 30], "promote": [3], "finalists": 2, "seeds": [5]}
    candidates = run_candidates(loaded(tmp_path, budget=budget, baselines=[{"optimizer.init_args.lr": 0.1}]))
    (baseline,) = (candidate for candidate in candidates if candidate.baseline)
    assert baseline.params == {"optimizer.init_args.lr": 0.1}
    assert len(candidates) == 6
    assert (baseline.steps, baseline.seeds) == (30, (0, 5))
    assert max(other.values or () for other in candidates if other is not baseline) < (baseline.values or ())


def test_nan_objective_fails_the_trial(tmp_path: Path) -> None:
    """Optuna does not accept NaN as a value, but the study must still complete."""
    train = {"class_path": "tests.sweeps.sleeping.Sleep", "init_args": {"nan_above": 1e-2}}
    candidates = run_candidates(loaded(tmp_path, train=train))
    assert len(candidates) == 6
    assert {candidate.state for candidate in candidates if learning_rate(candidate) > 1e-2} == {"failed"}
    assert {candidate.reason for candidate in candidates if candidate.state == "failed"} == {"loss is nan"}


def test_study_resumes_after_the_cause_of_its_failures_is_fixed(tmp_path: Path) -> None:
    train = {"class_path": "tests.sweeps.sleeping.Sleep", "init_args": {"fails_with": str(tmp_path / "fuse")}}
    (tmp_path / "fuse").touch()
    sweep = loaded(tmp_path, train=train)
    with pytest.raises(RunError, match="the first 3 trials failed: RuntimeError: fuse"):
        run(sweep)
    (tmp_path / "fuse").unlink()
    assert sorted(candidate.state for candidate in run_candidates(sweep)) == ["complete"] * 3 + ["failed"] * 3


def test_space_smaller_than_the_budget_is_exhausted_and_promoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"rate": {"kind": "values", "values": [1e-3, 2e-3], "keys": ["optimizer.init_args.lr"]}}
    sweep = loaded(tmp_path, space=space, budget={"trials": 6, "steps": [10, 20], "promote": [1]})
    assert sorted(candidate.steps for candidate in run_candidates(sweep)) == [10, 20]
    assert "the search space is exhausted after 2 trials" in capsys.readouterr().out


def test_two_commands_cannot_run_the_same_study(tmp_path: Path) -> None:
    sweep = loaded(tmp_path)
    with lock(sweep.config), pytest.raises(RunError, match="is already being run by another command"):
        run(sweep)
    assert len(run(sweep).records(promoted=False)) == 6


def test_infeasible_trials_are_not_trained_and_not_counted(tmp_path: Path) -> None:
    space = {
        "rate": {"kind": "float", "low": 1e-3, "high": 4e-3, "keys": ["optimizer.init_args.lr"]},
        "width": {"kind": "values", "values": [128, 256, 300], "keys": ["backbone.width"]},
    }
    bound = {"of": {"class_path": "sweeps.costs.Parameters"}, "at_least": 2.0}
    sweep = loaded(tmp_path, "set.backbone.widths=[0.5, 1.0]", space=space, require=["rate < 3e-3"],
                   constraints={"size": bound}, sampler={"kind": "random"})  # fmt: skip
    records = run(sweep).records(promoted=False)
    trained = [record for record in records if record.outcome == "complete"]
    infeasible = [record for record in records if record.outcome == "infeasible"]
    assert len(trained) == 6
    assert len(validations(tmp_path)) == 6
    assert len(infeasible) + 6 == len(records)
    assert {(r.params["width"], numeric_param(r, "rate") < 3e-3) for r in trained} == {(256, True)}
    reasons = " ".join(str(record.attrs["reason"]) for record in infeasible)
    assert "require: rate < 3e-3" in reasons
    assert "not a multiple of head_dim" in reasons
    assert "size is 1." in reasons


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_same_parameters_are_not_trained_twice(tmp_path: Path, kind: str) -> None:
    """Samplers tend to repeat the best parameters. Five trials in a space of six points must all be different."""
    space = {
        "rate": {"kind": "values", "values": [1e-3, 2e-3, 3e-3], "keys": ["optimizer.init_args.lr"]},
        "clip": {"kind": "values", "values": [1.0, 2.0], "keys": ["training.clip_norm"]},
    }
    sweep = loaded(tmp_path, space=space, budget={"trials": 5, "steps": [10]}, sampler={"kind": kind, "startup": 2})
    trained = [record for record in run(sweep).records(promoted=False) if record.outcome == "complete"]
    assert len({(r.params["rate"], r.params["clip"]) for r in trained}) == len(trained) == 5


def test_options_decide_which_parameters_a_trial_has(tmp_path: Path) -> None:
    sparse = {"kind": "assa", "kv_heads": 2, "blocks": "$blocks", "compression": False}
    space = {
        "where": {"kind": "options", "options": {
            "full": {"backbone.levels.0.attention": {"kind": "full", "kv_heads": 2}},
            "sparse": {"backbone.levels.0.attention": sparse}}},
        "blocks": {"kind": "int", "low": 2, "high": 16, "log": True},
    }  # fmt: skip
    store = run(loaded(tmp_path, space=space, budget={"trials": 6, "steps": [10]}, sampler={"kind": "random"}))
    for record in store.records(promoted=False):
        assert ("blocks" in record.params) == (record.params["where"] == "sparse")
        attention = dict(record.attrs["overrides"])["backbone.levels.0.attention"]
        assert attention["kind"] == ("assa" if "blocks" in record.params else "full")
        assert attention.get("blocks") == record.params.get("blocks")


@pytest.mark.parametrize("kind", ["asha", "hyperband"])
def test_the_pruner_ends_trials_that_fall_behind(tmp_path: Path, kind: str) -> None:
    sweep = loaded(tmp_path, budget={"trials": 12, "steps": [80]}, sampler={"kind": "random"},
                   pruner={"kind": kind, "least_steps": 10, "reduction": 2})  # fmt: skip
    records = run(sweep).records(promoted=False)
    pruned = [record for record in records if record.outcome == "pruned"]
    assert len(records) == 12
    assert 2 < len(pruned) < 12
    assert len(validations(tmp_path)) < 12 * 8 - 8
    least = min(records, key=learning_rate)
    assert least.outcome == "complete"


def test_failing_trial_does_not_end_the_study(tmp_path: Path) -> None:
    train = {"class_path": "tests.sweeps.sleeping.Sleep", "init_args": {"diverges": 0.03}}
    store = run(loaded(tmp_path, train=train, budget={"trials": 9, "steps": [10]}, sampler={"kind": "random"}))
    outcomes = [record.outcome for record in store.records(promoted=False)]
    assert len(outcomes) == 9
    assert set(outcomes) == {"complete", "failed"}
    train["init_args"] = {"diverges": 0.0}
    other = loaded(tmp_path, "sweep=other", train=train)
    with pytest.raises(RunError, match="the first 3 trials failed: RuntimeError: loss is not finite"):
        run(other)


def test_study_with_only_infeasible_trials_ends(tmp_path: Path) -> None:
    space = {"rate": {"kind": "values", "values": [1e-3, 2e-3], "keys": ["optimizer.init_args.lr"]}}
    message = r"could not be trained \(the last one: require: rate > 1\); change the space"
    with pytest.raises(RunError, match=message):
        run(loaded(tmp_path, space=space, require=["rate > 1"], budget={"trials": 1, "steps": [10]}))


def test_interrupted_study_resumes_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fourth trial is interrupted after its first validation, and resumes from there in the same run."""
    original = Sleep.__call__

    def interrupted(self: Sleep, job: Any, observer: Any) -> Any:
        def on_step() -> None:
            if job.name == "trial-0003" and (Path(job.loaded.config.runs) / "s" / "trial-0003" / "done").is_file():
                raise KeyboardInterrupt

        monkeypatch.setattr(observer, "on_step", on_step, raising=False)
        return original(self, job, observer)

    monkeypatch.setattr(Sleep, "__call__", interrupted)
    budget = {"trials": 6, "steps": [20]}
    with pytest.raises(RunInterruptedError, match="interrupted in trial 3; run the same command again to resume"):
        run(loaded(tmp_path, budget=budget))
    assert validations(tmp_path).count("trial-0003 10") == 1
    monkeypatch.setattr(Sleep, "__call__", original)
    candidates = run_candidates(loaded(tmp_path, budget=budget))
    lines = [f"trial-{n:04d} {steps}" for n in range(3) for steps in (10, 20)]
    assert validations(tmp_path)[:6] == lines
    assert validations(tmp_path).count("trial-0003 10") == 1
    assert len(validations(tmp_path)) == 12
    assert [candidate.state for candidate in candidates] == ["complete"] * 6


def test_run_folders_of_another_study_are_not_resumed(tmp_path: Path) -> None:
    run(loaded(tmp_path))
    (tmp_path / "runs" / "sweeps.db").unlink()
    with pytest.raises(ConfigError, match="belongs to a study that is not in"):
        run(loaded(tmp_path))
    assert Store(loaded(tmp_path).config).records(promoted=False) == []


def test_study_without_a_successful_trial_fails_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With only two trials, the study ends before enough trials have failed to stop it early."""
    train = {"class_path": "tests.sweeps.sleeping.Sleep", "init_args": {"diverges": 0.0}}
    with pytest.raises(RunError, match=r"no trial succeeded: RuntimeError: loss is not finite; see .*log"):
        run(loaded(tmp_path, train=train, budget={"trials": 2, "steps": [10]}))
    assert "2 failed" in capsys.readouterr().err


def test_results_are_printed_even_if_a_plot_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> list[Path]:
        raise ZeroDivisionError("plot")

    with pytest.raises(ZeroDivisionError, match="plot"):
        study.run(loaded(tmp_path), fail)
    assert "optimizer.init_args.lr=" in capsys.readouterr().out

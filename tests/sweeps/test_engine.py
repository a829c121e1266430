"""Studies from beginning to end in this process."""

from pathlib import Path
from typing import Any

import pytest

from pocketdit.errors import RunError, Stopped
from sweeps import engine, launchers
from sweeps.results import best, candidates
from sweeps.store import Store, answering
from sweeps.train import Train
from tests.sweeps.sleeping import Sleep
from tests.sweeps.study import loaded


@pytest.fixture(autouse=True)
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent run takes seconds to reach MLflow; one test of it is enough."""
    monkeypatch.setattr("sweeps.parent.ParentRun.run_id", lambda self: None)
    monkeypatch.setattr("sweeps.engine.draw", lambda store: [])
    monkeypatch.setattr("pocketdit.tracking.logger.Shipper.start", lambda self: None)
    monkeypatch.setattr("pocketdit.tracking.logger.Shipper.close", lambda self, timeout: 0)


def validations(folder: Path) -> list[str]:
    """``trial-0003 10`` for every validation that a trial came to, in order."""
    lines = (folder / "runs" / "s" / "validations").read_text().splitlines()
    return [line.rpartition(" ")[0] for line in lines]  # without the process


@pytest.mark.parametrize("kind", ["tpe", "nsga2", "gp", "random"])
def test_budget_is_exact_for_every_sampler(tmp_path: Path, kind: str) -> None:
    store = engine.run(loaded(tmp_path, sampler={"kind": kind, "startup": 3}))
    records = store.records(longer=False)
    assert len(records) == 6 and {record.ended for record in records} == {"finished"}
    assert sorted(validations(tmp_path)) == [f"trial-{n:04d} 10" for n in range(6)]
    assert len({record.choices["optimizer.init_args.lr"] for record in records}) == 6


def test_a_study_that_is_done_does_nothing_and_a_larger_budget_goes_on(tmp_path: Path) -> None:
    engine.run(loaded(tmp_path))
    engine.run(loaded(tmp_path))
    assert len(validations(tmp_path)) == 6
    store = engine.run(loaded(tmp_path, budget={"trials": 8, "steps": [10]}))
    rates = [record.choices["optimizer.init_args.lr"] for record in store.records(longer=False)]
    assert len(validations(tmp_path)) == 8 and len(set(rates)) == 8  # nothing drawn a second time


def test_front_goes_on_from_its_checkpoint_and_finalists_are_repeated(tmp_path: Path) -> None:
    budget = {"trials": 6, "steps": [10, 30], "promote": [3], "finalists": 2, "seeds": [5, 7]}
    study = loaded(tmp_path, budget=budget)
    store = engine.run(study)
    found = candidates(study.config, store)
    by_rate = sorted(found, key=lambda one: float(str(one.choices["optimizer.init_args.lr"])))
    assert [one.steps for one in by_rate] == [30, 30, 30, 10, 10, 10]
    seen = validations(tmp_path)
    first = f"trial-{by_rate[0].number:04d}"
    assert [line for line in seen if line.startswith(f"{first} ")] == [f"{first} {s}" for s in (10, 20, 30)]
    assert [line for line in seen if line.startswith(f"{first}-seed-7 ")] == [
        f"{first}-seed-7 {s}" for s in (10, 20, 30)
    ]
    assert len(seen) == 6 + 3 * 2 + 2 * 2 * 3
    (winner,) = best(study.config, found)
    assert winner.number == by_rate[0].number and winner.seeds == (0, 5, 7)
    rate = float(str(winner.choices["optimizer.init_args.lr"]))
    assert winner.values == pytest.approx((rate + 0.004 + 1 / 30,))  # the mean of seeds 0, 5 and 7
    assert winner.spread == pytest.approx((0.001 * 13**0.5,))  # their standard deviation


def test_a_baseline_is_trained_as_given_and_compared_to_the_end(tmp_path: Path) -> None:
    budget = {"trials": 6, "steps": [10, 30], "promote": [3], "finalists": 2, "seeds": [5]}
    study = loaded(tmp_path, budget=budget, baselines=[{"optimizer.init_args.lr": 0.1}])
    found = candidates(study.config, engine.run(study))
    (baseline,) = (one for one in found if one.baseline)
    assert baseline.choices == {"optimizer.init_args.lr": 0.1} and len(found) == 6
    assert (baseline.steps, baseline.seeds) == (30, (0, 5))
    assert max(one.values or () for one in found if one is not baseline) < (baseline.values or ())


def test_a_figure_that_is_no_number_fails_the_trial(tmp_path: Path) -> None:
    """Optuna refuses it as a value; the study must still come to its end."""
    train = {"class_path": "tests.sweeps.sleeping.Sleep", "init_args": {"nan_above": 1e-2}}
    study = loaded(tmp_path, train=train)
    found = candidates(study.config, engine.run(study))
    states = {one.state for one in found if float(str(one.choices["optimizer.init_args.lr"])) > 1e-2}
    assert len(found) == 6 and states == {"failed"}
    assert {one.reason for one in found if one.state == "failed"} == {"loss is nan"}


def test_a_study_goes_on_after_what_made_its_trials_fail_is_mended(tmp_path: Path) -> None:
    train = {"class_path": "tests.sweeps.sleeping.Sleep", "init_args": {"fails_with": str(tmp_path / "fuse")}}
    (tmp_path / "fuse").touch()
    study = loaded(tmp_path, train=train)
    with pytest.raises(RunError, match="the first 3 trials failed: RuntimeError: fuse"):
        engine.run(study)
    (tmp_path / "fuse").unlink()
    states = [one.state for one in candidates(study.config, engine.run(study))]
    assert sorted(states) == ["failed"] * 3 + ["finished"] * 3


def test_a_space_smaller_than_the_budget_is_tried_whole_and_promoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"rate": {"kind": "values", "values": [1e-3, 2e-3], "keys": ["optimizer.init_args.lr"]}}
    study = loaded(tmp_path, space=space, budget={"trials": 6, "steps": [10, 20], "promote": [1]})
    found = candidates(study.config, engine.run(study))
    assert sorted(one.steps for one in found) == [10, 20]
    assert "the space holds no more than 2 trials" in capsys.readouterr().out


def test_two_commands_do_not_drive_one_study(tmp_path: Path) -> None:
    study = loaded(tmp_path)
    with engine.alone(study.config), pytest.raises(RunError, match="is being run by another command"):
        engine.run(study)
    assert len(engine.run(study).records(longer=False)) == 6


def test_workers_that_leave_late_are_started_again_and_those_that_die_at_once_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead:
        started = 0

        def start(self, index: int) -> None:
            self.started += 1

        def alive(self, index: int) -> bool:
            return False

        def stop(self) -> None: ...

    crew = launchers.Crew(Dead(), 1, tmp_path)
    with pytest.raises(RunError, match="worker 0 ended 10 times in a row"):
        for _ in range(30):
            crew.keep()
    monkeypatch.setattr(launchers, "SOON_SECONDS", 0.0)
    patient = launchers.Crew(Dead(), 1, tmp_path)
    for _ in range(30):
        patient.keep()


def test_every_worker_has_a_gpu_of_its_own() -> None:
    assert [launchers.gpu_for(i, ["2", "5"])["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["2", "5", "2"]
    assert launchers.gpu_for(0, []) == {}


def test_a_storage_that_fails_meanwhile_is_one_line_without_its_password(tmp_path: Path) -> None:
    import sqlalchemy.exc

    sweep = loaded(tmp_path, storage="postgresql+psycopg2://me:hunter2@db/x").config
    with pytest.raises(RunError, match="does not answer: the server is gone") as caught, answering(sweep):
        raise sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("the server is gone"))
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)


def test_invalid_combinations_are_never_trained_and_not_counted(tmp_path: Path) -> None:
    space = {
        "rate": {"kind": "float", "low": 1e-3, "high": 4e-3, "keys": ["optimizer.init_args.lr"]},
        "width": {"kind": "values", "values": [128, 256, 300], "keys": ["backbone.width"]},
    }
    bound = {"of": {"class_path": "sweeps.costs.Parameters"}, "at_least": 2.0}
    study = loaded(tmp_path, "set.backbone.widths=[0.5, 1.0]", space=space, require=["rate < 3e-3"],
                   constraints={"size": bound}, sampler={"kind": "random"})  # fmt: skip
    store = engine.run(study)
    records = store.records(longer=False)
    trained = [record for record in records if record.ended == "finished"]
    refused = [record for record in records if record.ended == "infeasible"]
    assert len(trained) == 6 and len(validations(tmp_path)) == 6 and len(refused) + 6 == len(records)
    assert {(r.choices["width"], r.choices["rate"] < 3e-3) for r in trained} == {(256, True)}
    reasons = " ".join(str(record.notes["reason"]) for record in refused)
    assert "require: rate < 3e-3" in reasons and "not a multiple of head_dim" in reasons and "size is 1." in reasons


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_no_choices_are_trained_twice(tmp_path: Path, kind: str) -> None:
    """A sampler would repeat the best it knows; five trials of a space of six are five different ones."""
    space = {
        "rate": {"kind": "values", "values": [1e-3, 2e-3, 3e-3], "keys": ["optimizer.init_args.lr"]},
        "clip": {"kind": "values", "values": [1.0, 2.0], "keys": ["training.clip_norm"]},
    }
    study = loaded(tmp_path, space=space, budget={"trials": 5, "steps": [10]}, sampler={"kind": kind, "startup": 2})
    trained = [record for record in engine.run(study).records(longer=False) if record.ended == "finished"]
    assert len({(r.choices["rate"], r.choices["clip"]) for r in trained}) == len(trained) == 5


def test_options_make_the_choices_that_they_stand_on(tmp_path: Path) -> None:
    sparse = {"kind": "assa", "kv_heads": 2, "blocks": "$blocks", "compression": False}
    space = {
        "where": {"kind": "options", "options": {
            "full": {"backbone.levels.0.attention": {"kind": "full", "kv_heads": 2}},
            "sparse": {"backbone.levels.0.attention": sparse}}},
        "blocks": {"kind": "int", "low": 2, "high": 16, "log": True},
    }  # fmt: skip
    store = engine.run(loaded(tmp_path, space=space, budget={"trials": 6, "steps": [10]}, sampler={"kind": "random"}))
    for record in store.records(longer=False):
        assert ("blocks" in record.choices) == (record.choices["where"] == "sparse")
        text = next(word for word in record.notes["overrides"] if word.startswith("backbone.levels.0.attention="))
        assert ("assa" in text) == ("blocks" in record.choices)
        assert f'"blocks": {record.choices.get("blocks")}' in text or "full" in text


@pytest.mark.parametrize("kind", ["asha", "hyperband"])
def test_pruner_ends_trials_that_fall_behind(tmp_path: Path, kind: str) -> None:
    study = loaded(tmp_path, budget={"trials": 12, "steps": [80]}, sampler={"kind": "random"},
                   pruner={"kind": kind, "least_steps": 10, "reduction": 2})  # fmt: skip
    store = engine.run(study)
    records = store.records(longer=False)
    pruned = [record for record in records if record.ended == "pruned"]
    assert len(records) == 12 and 2 < len(pruned) < 12
    assert len(validations(tmp_path)) < 12 * 8 - 8
    least = min(records, key=lambda r: r.choices["optimizer.init_args.lr"])
    assert least.ended == "finished"


def test_a_failing_trial_is_told_and_the_study_goes_on(tmp_path: Path) -> None:
    train = {"class_path": "tests.sweeps.sleeping.Sleep", "init_args": {"diverges": 0.03}}
    store = engine.run(loaded(tmp_path, train=train, budget={"trials": 9, "steps": [10]}, sampler={"kind": "random"}))
    ended = [record.ended for record in store.records(longer=False)]
    assert len(ended) == 9 and set(ended) == {"finished", "failed"}
    with pytest.raises(RunError, match="the first 3 trials failed: RuntimeError: loss is not finite"):
        train["init_args"] = {"diverges": 0.0}
        engine.run(loaded(tmp_path, "sweep=other", train=train))


def test_a_space_with_nothing_to_train_is_left(tmp_path: Path) -> None:
    space = {"rate": {"kind": "values", "values": [1e-3, 2e-3], "keys": ["optimizer.init_args.lr"]}}
    with pytest.raises(RunError, match="could not be trained, the last: require: rate > 1; change the space"):
        engine.run(loaded(tmp_path, space=space, require=["rate > 1"], budget={"trials": 1, "steps": [10]}))


def test_a_stopped_study_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the first validation of the fourth trial: that trial goes on from there, under its own name."""
    watched = Sleep.__call__

    def stopping(self: Sleep, job: Any, watch: Any) -> Any:
        def stepped() -> None:
            if job.name == "trial-0003" and (Path(job.loaded.config.runs) / "s" / "trial-0003" / "done").is_file():
                raise KeyboardInterrupt

        monkeypatch.setattr(watch, "stepped", stepped, raising=False)
        return watched(self, job, watch)

    monkeypatch.setattr(Sleep, "__call__", stopping)
    budget = {"trials": 6, "steps": [20]}
    with pytest.raises(Stopped, match="stopped in trial 3"):
        engine.run(loaded(tmp_path, budget=budget))
    assert validations(tmp_path).count("trial-0003 10") == 1
    monkeypatch.setattr(Sleep, "__call__", watched)
    study = loaded(tmp_path, budget=budget)
    store = engine.run(study)
    names = [f"trial-{n:04d} {steps}" for n in range(3) for steps in (10, 20)]
    assert validations(tmp_path)[:6] == names and validations(tmp_path).count("trial-0003 10") == 1
    assert len(validations(tmp_path)) == 12
    assert [one.state for one in candidates(study.config, store)] == ["finished"] * 6


def test_train_is_what_trials_do_unless_told() -> None:
    from sweeps.settings import Sweep

    field = Sweep.__dataclass_fields__["train"]
    assert field.default_factory().class_path == f"{Train.__module__}.{Train.__qualname__}"  # type: ignore[misc]


def test_run_folders_of_another_study_are_not_taken_over(tmp_path: Path) -> None:
    engine.run(loaded(tmp_path))
    (tmp_path / "runs" / "sweeps.db").unlink()
    with pytest.raises(RunError.__mro__[1], match="is of another study than"):
        engine.run(loaded(tmp_path))
    assert Store(loaded(tmp_path).config).records(longer=False) == []

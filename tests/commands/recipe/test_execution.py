"""Tests which tasks of a recipe run, and which reasons are reported."""

import shutil
from pathlib import Path

import pytest

from pocketdit.commands.recipe.execution import Choice
from pocketdit.commands.recipe.source_code import read_source
from pocketdit.errors import RunError
from tests.commands.recipe.conftest import Bench

ALL = ["scenes", "pretrain", "teacher", "distill", "decoder", "score", "bundle"]
STEPS = "tasks.teacher.overrides=[training.max_steps=7]"


def ran(bench: Bench) -> set[str]:
    return set(bench.launcher.commands)


def test_the_first_call_runs_everything_in_order(bench: Bench) -> None:
    reports = bench.run()
    started = list(bench.launcher.commands)
    assert set(started) == set(ALL)
    for name, needed in bench.load().graph().items():
        assert all(started.index(name) > started.index(other) for other in needed)
    assert reports["scenes"] == "runs: it has not run yet"


def test_a_second_call_runs_nothing(bench: Bench) -> None:
    bench.run()
    assert set(bench.run().values()) == {"up to date"}
    assert not ran(bench)


def test_commands_refer_to_the_runs_of_other_tasks(bench: Bench, tmp_path: Path) -> None:
    bench.run()
    commands = bench.launcher.commands
    runs = {path.parent.name: path for path in (tmp_path / "runs").glob("*/tiny-*")}
    assert f"parents.start={runs['elastic_pretrain']}" in commands["distill"]
    assert f"parents.teacher={runs['teacher']}" in commands["distill"]
    assert f"data.init_args.path={tmp_path / 'scenes'}" in commands["distill"]
    assert f"run={runs['knowledge_distill']}" in commands["score"]
    assert f"run={runs['knowledge_distill']}" in commands["bundle"]


def test_a_changed_setting_repeats_what_depends_on_it_and_nothing_else(bench: Bench) -> None:
    bench.run()
    reports = bench.run(STEPS)
    assert ran(bench) == {"teacher", "distill", "score", "bundle"}
    assert reports["teacher"].startswith("runs: training.max_steps: ")
    assert reports["teacher"].endswith("-> 7")
    assert reports["distill"] == "runs: the output of teacher changed"
    assert reports["pretrain"] == "up to date"


def test_an_earlier_result_is_used_again(bench: Bench) -> None:
    bench.run()
    bench.run(STEPS)
    reports = bench.run()
    assert not ran(bench)
    assert reports["teacher"] == "up to date (an earlier result has the same inputs)"
    assert set(bench.run().values()) == {"up to date"}


def test_an_equal_result_does_not_repeat_later_tasks(bench: Bench) -> None:
    """The teacher is trained again with a different logging interval, which does not change its weights."""
    bench.run()
    reports = bench.run("tasks.teacher.overrides=[training.log_every=3]")
    assert ran(bench) == {"teacher"}
    assert reports["distill"] == "up to date"


def test_changed_weights_of_a_parent_are_noticed(bench: Bench, tmp_path: Path) -> None:
    bench.run()
    next((tmp_path / "runs" / "teacher").glob("tiny-*/weights.safetensors")).write_text("other weights")
    reports = bench.run()
    assert ran(bench) == {"distill", "score", "bundle"}
    assert reports["distill"] == "runs: the output of teacher changed"
    assert reports["teacher"] == "up to date"


def test_a_deleted_result_is_computed_again(bench: Bench, tmp_path: Path) -> None:
    bench.run()
    shutil.rmtree(tmp_path / "evaluations")
    reports = bench.run()
    assert ran(bench) == {"score"}
    assert "no longer exists" in reports["score"]


def test_an_interrupted_run_is_resumed(bench: Bench, tmp_path: Path) -> None:
    bench.run()
    (finished,) = (tmp_path / "runs" / "teacher").glob("tiny-*/finished")
    finished.unlink()
    reports = bench.run()
    assert reports["teacher"] == "runs: it was interrupted"
    words = bench.launcher.commands["teacher"]
    assert words[words.index("--resume") + 1] == f"teacher/{finished.parent.name}"
    assert ran(bench) == {"teacher"}, "other tasks must not run, because the weights are the same"


def test_changed_code_repeats_what_depends_on_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run()

    def changed(path: Path) -> tuple[str, tuple[str, ...]]:
        digest, names = read_source(path)
        return ("changed" if path.name == "tiny_decoder.py" and path.parent.name == "stages" else digest), names

    monkeypatch.setattr("pocketdit.commands.recipe.source_code.read_source", changed)
    assert set(bench.run(choice=Choice(accept_code=True)).values()) == {"up to date"}
    reports = bench.run()
    assert reports["decoder"] == "runs: the code of pocketdit.stages.tiny_decoder changed"
    assert ran(bench) == {"decoder"}


def test_from_repeats_a_task_and_its_dependents(bench: Bench) -> None:
    bench.run()
    repeated = bench.load().dependents({"teacher"})
    assert repeated == {"teacher", "distill", "score", "bundle"}
    reports = bench.run(choice=Choice(repeated=repeated))
    assert ran(bench) == repeated
    assert reports["teacher"] == "runs: repeated by --from"
    assert set(bench.run().values()) == {"up to date"}, "the repeated results must be kept"


def test_only_refuses_to_use_outdated_results(bench: Bench) -> None:
    with pytest.raises(RunError, match=r"--only: scenes is not up to date \(it has not run yet\); add it to --only"):
        bench.run(choice=Choice(only=["pretrain"]))
    bench.run(choice=Choice(only=["scenes", "pretrain"]))
    assert ran(bench) == {"scenes", "pretrain"}


def test_tasks_that_do_not_need_a_failed_one_still_run(bench: Bench) -> None:
    bench.failing = {"teacher"}
    with pytest.raises(RunError, match="teacher failed, so these did not run: distill, ") as error:
        bench.run()
    assert "run the same command again" in str(error.value)
    assert ran(bench) == {"scenes", "pretrain", "teacher", "decoder"}
    bench.failing = set()
    bench.run()
    assert ran(bench) == {"teacher", "distill", "score", "bundle"}


def test_a_damaged_record_is_named(bench: Bench, tmp_path: Path) -> None:
    bench.run()
    record = tmp_path / "runs" / "recipes" / "tiny" / "teacher.json"
    for text in ("", "[]", "{}", record.read_text()[:-40], record.read_text().replace('"seconds"', '"minutes"')):
        record.write_text(text)
        with pytest.raises(RunError, match=r"teacher\.json is damaged; delete it to run the task again"):
            bench.run()
    record.unlink()
    assert bench.run()["teacher"] == "up to date (an earlier result has the same inputs)"

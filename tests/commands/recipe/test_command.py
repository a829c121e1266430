"""Tests for ``lightning run`` with a recipe."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pocketdit.commands.main import main
from tests.commands.recipe.conftest import RECIPE
from tests.conftest import ROOT, tiny_overrides


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(folder=tmp_path))
    return file


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tasks=3"], "tasks: expected a mapping"),
        (["tasks.pretrain.file=experiments/elastic_pretran.yaml"], "elastic_pretrain.yaml"),
        (["tasks.pretrain.data=scene"], "tasks.pretrain.data: there is no task 'scene'; did you mean 'scenes'?"),
        (["tasks.pretrain.data=teacher"], "tasks.pretrain.data: teacher must be a task of kind build, not train"),
        (["tasks.score.run=scenes"], "tasks.score.run: scenes must be a task of kind train, not build"),
        (["tasks.pretrain.parents={start: distill}"], "tasks: these tasks need each other: "),
        (["tasks.pretrain.kind=trains"], "tasks.pretrain.kind: 'trains' is not one of"),
        (["tasks.pretrain.overrides=[training.max_step=3]"], "training.max_step"),
        (["tasks.distill.parents={begin: teacher}"], "tasks.distill.parents.begin: "),
        (["tasks.score.overrides=[width=2]"], "width"),
        (["recipe=a/b"], "recipe: 'a/b' must be a plain name"),
        (["tasks={}"], "tasks must not be empty"),
        (["report.ladder=[pretrains]"], "report.ladder: there is no task 'pretrains'; did you mean 'pretrain'?"),
        (["report.base=[pretrain]"], "report.base: pretrain must be a task of kind evaluate, not train"),
        (["report.recipes=[no/recipe.yaml]"], "report.recipes.0: "),
        (["report.standalones=[pretrain]"], "report.standalones: unknown key"),
        (["launcher={kind: slurm, tasks: {pretrains: {nodes: 2}}}"], "launcher.tasks: there is no task 'pretrains'"),
        (["--from", "pretrains"], "--from: there is no task 'pretrains'; did you mean 'pretrain'?"),
        (["--only", "scenes", "scores"], "--only: there is no task 'scores'; did you mean 'score'?"),
        (["--resume"], "--resume only applies to experiments"),
        (["--plan"], "--plan only applies to experiments, and"),
    ],
)
def test_mistakes_are_named_in_one_line(
    recipe: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(recipe), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (recipe.parent / "runs").exists()


@pytest.mark.parametrize("option", [["--dry-run"], ["--from", "scenes"], ["--only", "scenes"], ["--accept-code"]])
def test_options_of_recipes_are_refused_for_experiments(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "experiments/elastic_pretrain.yaml", *option]) == 2
    assert f"{option[0]} only applies to recipes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["recipe.yaml", "ablations/recipe.yaml", "paper/recipe.yaml"])
def test_a_dry_run_of_every_recipe_shows_all_tasks(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", f"experiments/{name}", f"runs={tmp_path / 'runs'}", "--dry-run"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) >= 9
    assert all(re.search(r" runs +.*it (has not run yet|needs \w+)", row) for row in rows)
    assert not (tmp_path / "runs").exists()


def test_one_file_is_not_run_twice_at_the_same_time(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pocketdit.locks import hold_lock

    folder = recipe.parent / "runs" / "recipes" / "tiny"
    folder.mkdir(parents=True)
    with hold_lock(folder / "lock", ""):
        assert main(["run", str(recipe)]) == 1
    assert "recipe tiny is already running" in capsys.readouterr().err


def reduced(folder: Path) -> Path:
    """Write a recipe for the embedded pipeline that takes about a minute."""
    data = folder / "scenes"
    set_by_recipe = ("runs", "tracking", "data.init_args.path")
    pretrain = [word for word in tiny_overrides(data, folder) if not word.startswith(set_by_recipe)]
    file = folder / "recipe.yaml"
    file.write_text(f"""
recipe: reduced
runs: {folder}/runs
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
tasks:
  scenes: {{kind: build, source: scenes, out: {data}, options: [--train, "64", --validation, "8"]}}
  pretrain: {{kind: train, file: experiments/elastic_pretrain.yaml, data: scenes, overrides: {pretrain}}}
  decoder:
    kind: train
    file: experiments/tiny_decoder.yaml
    data: scenes
    overrides: [training.max_steps=6, training.checkpoint_every=2, data.init_args.batch_size=4]
  score:
    kind: evaluate
    file: experiments/eval/held_out.yaml
    run: pretrain
    overrides: [width=0.5, steps=2, "out={folder}/evaluations"]
""")
    return file


def start(file: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pocketdit", "run", str(file)],
            cwd=ROOT, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip


def results(folder: Path) -> dict[str, bytes]:
    files = [
        *folder.glob("runs/*/reduced-*/weights.safetensors"),
        *folder.glob("evaluations/reduced/*/*/*/results.json"),
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_recipe_killed_at_five_points_has_the_same_results(tmp_path: Path) -> None:
    """Kill alternately the whole process group and only the process that runs the recipe."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
        reduced(folder)
    log = tmp_path / "log"
    assert start(undisturbed / "recipe.yaml", log).wait(timeout=600) == 0, log.read_text()
    expected = results(undisturbed)
    assert len(expected) == 3
    for seconds, group in ((3, True), (12, False), (20, True), (8, False), (16, True)):
        process = start(killed / "recipe.yaml", log)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL) if group else process.kill()
        process.wait()
        time.sleep(0 if group else 5)  # the process of the task exits soon after its parent
    assert start(killed / "recipe.yaml", log).wait(timeout=600) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    found = results(killed)
    weights = {name for name in expected if name.endswith("safetensors")}
    assert {name: found[name] for name in weights} == {name: expected[name] for name in weights}
    assert set(found) == set(expected)

    start_time = time.monotonic()
    again = subprocess.run([sys.executable, "-m", "pocketdit", "run", str(killed / "recipe.yaml")],
                           cwd=ROOT, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert again.stdout.splitlines()[-1] == "everything is up to date"
    print(f"a call that runs nothing took {time.monotonic() - start_time:.1f} s")


@pytest.mark.slow
def test_runs_are_children_of_the_recipe_in_mlflow(tmp_path: Path) -> None:
    from pocketdit.tracking.mlflow_run import import_mlflow

    file = reduced(tmp_path)
    subprocess.run([sys.executable, "-m", "pocketdit", "run", str(file)], cwd=ROOT, check=True, timeout=600)
    client = import_mlflow()(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("pocketdit")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags.get("kind") == "recipe")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 3
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["needs.score"] == "pretrain"
    assert Path(parent.data.tags["output.pretrain"], "weights.safetensors").is_file()


@pytest.mark.slow
def test_tasks_run_beside_each_other(tmp_path: Path) -> None:
    file = reduced(tmp_path)
    command = [sys.executable, "-m", "pocketdit", "run", str(file), "launcher.jobs=2"]
    output = subprocess.run(command, cwd=ROOT, check=True, timeout=600, capture_output=True, text=True).stdout
    logs = {path.stem for path in (tmp_path / "runs" / "recipes" / "reduced").glob("*.log")}
    assert logs == {"scenes", "pretrain", "decoder", "score"}
    assert output.index("decoder: runs") < output.index("score: runs")


@pytest.mark.slow
def test_tasks_run_as_jobs(tmp_path: Path) -> None:
    """Submitit's local cluster uses the same code as its SLURM cluster, but starts local processes."""
    pytest.importorskip("submitit")
    file = reduced(tmp_path)
    command = [sys.executable, "-m", "pocketdit", "run", str(file), "launcher={kind: slurm, cluster: local}"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    assert len(results(tmp_path)) == 3

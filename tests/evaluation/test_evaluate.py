"""Tests ``lightning evaluate`` end to end with a tiny run, the embedded judges and a user's metric."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from evaluation.contract import ImageArray
from evaluation.metrics.validation_loss import ValidationLoss
from pocketdit.commands.main import main
from pocketdit.tracking import journal
from tests.conftest import PRETRAIN, ROOT, NewDatabase

EMBEDDED = ROOT / "experiments" / "eval" / "embedded.yaml"
SETS = ("geneval", "dpg", "color", "shape", "spatial", "numeracy", "complex")


@pytest.fixture
def arguments(runs: Path, scenes: Path, tmp_path: Path) -> list[str]:
    """Return arguments that evaluate the tiny run with the embedded judges and few prompts."""
    counts = [f"prompts.{name}.init_args.count={12 if name == 'geneval' else 3}" for name in SETS]
    return [
        "evaluate", str(EMBEDDED), "run=elastic_pretrain", "width=0.5", "steps=2", f"out={tmp_path / 'out'}",
        f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", "resamples=200", *counts,
        f"subject.init_args.runs={runs}", f"metrics.0.init_args.runs={runs}", "metrics.0.init_args.samples=8",
        f"metrics.9.init_args.reference={scenes}", "metrics.9.init_args.reference_samples=32",
        f"metrics.9.init_args.kept={tmp_path / 'references'}",
    ]  # fmt: skip


def test_evaluation_writes_report_and_mlflow_metrics_and_does_not_repeat_work(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    (results,) = (tmp_path / "out" / "embedded").glob("*/results.json")
    data = json.loads(results.read_text())
    metrics = [entry["metric"] for entry in data["results"]]
    assert len(metrics) == 10
    assert "validation-loss" in metrics
    # A score has a benchmark's bare name only if it comes from the published judge.
    assert not {"geneval", "dpg", "t2i-compbench", "clip-score", "dino-fid"} & set(metrics)
    assert all(name in out for name in metrics)
    geneval = next(entry for entry in data["results"] if entry["metric"].startswith("geneval"))
    assert geneval["scores"]["overall"]["samples"] == 12
    assert "interval_95" in geneval["scores"]["overall"]
    assert data["made"]["geneval"]["width"] == 0.5
    assert data["made"]["geneval"]["steps"] == 2
    assert (results.parent / "report.html").read_text().count('<img src="data:image/') == 8
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        stored = dict(database.execute("SELECT key, value FROM latest_metrics"))
    assert stored["validation-loss/overall"] == pytest.approx(data["results"][0]["scores"]["overall"]["value"])

    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").rglob("*.png")}
    assert len(times) == 12 + 6 * 3
    assert main(arguments) == 0
    again = capsys.readouterr()
    assert "sampling" not in again.err
    assert "scoring" not in again.out
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert json.loads(results.read_text())["results"] == data["results"]

    next(iter(times)).unlink()
    assert main(arguments) == 0
    assert next(iter(times)).is_file()

    assert main(["evaluate", "--table", "--out", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out
    assert "SnapGen++ full 1.6B" in table
    assert "measured" in table
    assert "scene-rules" in table
    assert main(["evaluate", "--compare", str(results), str(results.parent)]) == 0
    assert "geneval: equal on all 12 prompts" in capsys.readouterr().out


def test_validation_loss_matches_the_loss_logged_in_training(tiny: list[str], tmp_path: Path) -> None:
    """Both losses use the same noise levels, noise, samples and EMA weights."""
    runs = tmp_path / "runs"
    changes = ["training.max_steps=2", "training.validate_every=2", "training.precision=32-true"]
    assert main(["run", str(PRETRAIN), *tiny, *changes]) == 0
    logged = journal.read_metrics(runs / "elastic_pretrain" / "latest" / "metrics.jsonl")
    for width in (0.5, 1.0):
        scores = ValidationLoss("elastic_pretrain", width, samples=4, runs=runs).measure().scores
        ((_, expected),) = logged[f"validation/loss/width_{width:g}"]
        assert scores["overall"].value == pytest.approx(expected, rel=1e-4)
        assert scores["overall"].samples == 4
        assert len(scores) == 9


def test_each_width_has_its_own_images_and_results(arguments: list[str], tmp_path: Path) -> None:
    clip_only = [*arguments, "metrics=[{class_path: evaluation.metrics.clip_score.ClipScore, init_args: "
            "{prompts: color, encoder: {class_path: evaluation.scenes.encoders.clip.SceneClip}}}]"]  # fmt: skip
    clip_only = [argument for argument in clip_only if not argument.startswith("metrics.")]
    assert main(clip_only) == 0
    assert main([*clip_only, "width=1.0"]) == 0
    assert len(list((tmp_path / "out" / "embedded").iterdir())) == 2
    # Only the images of the prompt set that is scored are sampled, at each of the two widths.
    assert len(list((tmp_path / "out" / "images").iterdir())) == 2


FOLDER_EVALUATION = """
evaluation: folder
subject: {class_path: evaluation.subjects.image_folder.ImageFolder, init_args: {path: PATH/images}}
prompts:
  mine: {class_path: evaluation.prompts.file.PromptFile, init_args: {path: PATH/prompts.txt}}
metrics:
  - class_path: evaluation.metrics.clip_score.ClipScore
    init_args: {prompts: mine, encoder: {class_path: evaluation.scenes.encoders.clip.SceneClip}}
  - class_path: evaluation.metrics.feature_distance.FeatureDistance
    init_args:
      prompts: mine
      encoder: {class_path: evaluation.scenes.encoders.features.SceneFeatures}
      reference: PATH/real
      kept: PATH/references
out: PATH/out
tracking: {uri: "sqlite:///PATH/mlflow.db"}
"""


def test_changed_files_yield_a_second_result_and_a_second_mlflow_run(
    tmp_path: Path, render_objects: Callable[..., ImageArray]
) -> None:
    """Neither a report nor MLflow mixes the scores of two sets of images."""
    (tmp_path / "folder.yaml").write_text(FOLDER_EVALUATION.replace("PATH", str(tmp_path)))
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    circle, square = (
        render_objects((shape, color, 60, 60)) for shape, color in (("circle", "red"), ("square", "blue"))
    )

    def put(name: str, image: ImageArray) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)

    def evaluate() -> dict[Path, list[float]]:
        """Evaluate, and return the overall scores of all results so far."""
        assert main(["evaluate", str(tmp_path / "folder.yaml")]) == 0
        files = (tmp_path / "out" / "folder").glob("*/results.json")
        reports = {file.parent: json.loads(file.read_text()) for file in files}
        return {
            folder: [result["scores"]["overall"]["value"] for result in report["results"]]
            for folder, report in reports.items()
        }

    for name, image in (("images/0.png", circle), ("images/1.png", square), ("real/a.png", circle)):
        put(name, image)
    put("real/deeper/b.png", square)
    first = evaluate()
    put("images/1.png", square)  # the same image with a different modification time
    assert evaluate() == first
    put("images/1.png", circle)
    second = evaluate()
    assert len(second) == 2
    assert first.items() < second.items()
    (clip, distance), (other_clip, other_distance) = (second[folder] for folder in sorted(second, key=_age))
    assert other_clip < clip
    assert other_distance > distance
    put("real/deeper/b.png", circle)  # a reference image in a subfolder
    third = evaluate()
    assert len(third) == 3
    assert second.items() < third.items()
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        rows = database.execute("SELECT run_uuid, value FROM metrics WHERE key LIKE 'clip-score%'").fetchall()
    assert len(rows) == len(dict(rows)) == 3
    assert sorted(value for _, value in rows) == pytest.approx(sorted(values[0] for values in third.values()))


def _age(folder: Path) -> int:
    return (folder / "results.json").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('run=""', "run=EXPERIMENT"),
        ("width=0.3", " only has the widths 0.5, 1"),
        ("metrics.0.init_args.width=0.3", " only has the widths 0.5, 1"),
        ('metrics.0.init_args.run=""', "run=EXPERIMENT"),
        ("metrics.1.init_args.prompts=genevl", "prompt set 'genevl' is not defined"),
        ("metrics.1.init_args.detectr=x", "did you mean 'detector'"),
        ("metrics.1.init_args.detector.class_path=evaluation.scenes.judges.detector.SceneDetctor", "SceneDetector"),
        ("prompts.color.init_args.count=many", "prompts.color.init_args.count"),
        ("stepz=3", "steps"),
        ("prompts.genevall.init_args.count=4", "command line (prompts.genevall.init_args.count=4): prompts.genevall"),
        ("prompts.genevall.init_args.count=4", "did you mean 'geneval'?"),
        ("resamples=1", "resamples: must be from 100 to 1,000,000, not 1"),
        ("guidance=.inf", "guidance: must be finite, not inf"),
        ("guidance=-1", "guidance: must be from 0 to 1,000, not -1.0"),
        ("data=elsewhere", "does not use ${data}"),
        ("prompts.color.init_args.count=0", "count or limit must be at least 1"),
        ("metrics.9.init_args.reference_samples=-5", "reference_samples must be at least 2"),
        ("metrics.2.init_args.mode=official", "dpg: mode official needs 4 images per prompt, not 1"),
        ("metrics.1.init_args.prompts=color", "color is not a GenEval prompt set"),
        ("metrics.3.init_args.prompts=dpg", "not a color prompt of T2I-CompBench"),
        (
            "subject={class_path: evaluation.prompts.file.PromptFile, init_args: {path: x.txt}}",
            "subject.class_path: PromptFile is not a subject (evaluation/subjects/subject.py): it has no 'images'",
        ),
        (
            "prompts.color={class_path: evaluation.scenes.judges.detector.SceneDetector}",
            "prompts.color.class_path: SceneDetector is not a prompt set (evaluation/prompts): it has no 'load'",
        ),
        (
            "metrics.1={class_path: evaluation.scenes.judges.detector.SceneDetector}",
            "metrics.1.class_path: SceneDetector is not a metric (evaluation/contract.py): "
            "it has neither 'score' nor 'measure'",
        ),
    ],
)
def test_wrong_settings_are_reported_in_one_line(
    change: str, message: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, change]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_an_invalid_tracking_uri_is_reported_before_sampling(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "tracking.uri=file:///etc"]) == 2
    assert 'tracking.uri "file:///etc" is neither a database nor a server' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_files_are_listed_with_size_and_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = ROOT / "experiments" / "eval" / "published.yaml"
    assert main(["evaluate", str(published), "run=x", f"data={tmp_path}"]) == 2
    err = capsys.readouterr().err
    assert "files missing" in err
    assert "dpg_bench.csv (5 MB)" in err
    assert "--fetch" in err
    assert main(["evaluate", str(published), "run=x", f"data={tmp_path}", "--fetch", "--from", str(tmp_path)]) == 2
    assert re.search(r"--from .*: \d+ of \d+ files missing: ", capsys.readouterr().err)


def test_files_that_cannot_be_fetched_are_not_denied(capsys: pytest.CaptureFixture[str]) -> None:
    """The weights for preference.yaml are downloaded with other commands."""
    assert main(["evaluate", str(ROOT / "experiments" / "eval" / "preference.yaml"), "--fetch"]) == 0
    assert "--fetch has no files for this evaluation; see the comments in its YAML file" in capsys.readouterr().out


def test_command_needs_a_file(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    process = command("evaluate")
    assert process.returncode == 2
    assert "experiments/eval/" in process.stderr


MY_METRIC = """
import numpy as np

from evaluation.contract import ImageSet, Result, Score, open_image


class Brightness:
    def __init__(self, prompts: str, scale: float = 1.0) -> None:
        self.prompts, self.scale = prompts, scale

    def score(self, images: ImageSet) -> Result:
        by_prompt = {
            name: self.scale * float(np.mean([open_image(path).mean() for path in paths]))
            for name, paths in images.images.items()
        }
        score = Score(sum(by_prompt.values()) / len(by_prompt), len(by_prompt), by_prompt)
        return Result("brightness", {"overall": score}, {"scale": self.scale})
"""
MY_EVALUATION = """
evaluation: mine
subject: {class_path: evaluation.subjects.image_folder.ImageFolder, init_args: {path: images}}
prompts:
  mine: {class_path: evaluation.prompts.file.PromptFile, init_args: {path: prompts.txt}}
metrics:
  - class_path: my_metrics.Brightness
    init_args: {prompts: mine, scale: 2.0}
"""


def test_user_metric_is_imported_from_the_current_folder(tmp_path: Path, new_database: NewDatabase) -> None:
    """The installed command imports the metric, and computes the scores again when the metric's file changes."""
    (tmp_path / "runs").mkdir()
    new_database(tmp_path / "runs")
    (tmp_path / "pocketdit.toml").write_text('[trust]\nmodules = ["my_metrics"]\n')
    (tmp_path / "my_metrics.py").write_text(MY_METRIC)
    (tmp_path / "mine.yaml").write_text(MY_EVALUATION)
    (tmp_path / "prompts.txt").write_text("a dark image\na bright image\n")
    (tmp_path / "images").mkdir()
    for number, value in enumerate((10, 200)):
        Image.new("RGB", (8, 8), (value,) * 3).save(tmp_path / "images" / f"{number:05d}.png")
    command = [str(Path(sys.executable).with_name("lightning")), "evaluate", "mine.yaml"]

    def overall() -> float:
        process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert process.returncode == 0, process.stderr
        latest = max((tmp_path / "evaluations" / "mine").glob("*/results.json"), key=lambda path: path.stat().st_mtime)
        return float(json.loads(latest.read_text())["results"][0]["scores"]["overall"]["value"])

    assert overall() == pytest.approx(2 * 105)
    (tmp_path / "my_metrics.py").write_text(MY_METRIC.replace("self.scale * float", "3 * self.scale * float"))
    assert overall() == pytest.approx(6 * 105)
    assert len(list((tmp_path / "evaluations" / "mine").iterdir())) == 2


def test_evaluation_stores_the_throughput_of_a_run(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["steps=3", "guidance=1", f"out={tmp_path / 'out'}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"]
    metric = ["metrics.0.init_args.size=[64,96]", "metrics.0.init_args.max_batch=2"]
    run = ["run=elastic_pretrain", "width=0.5", f"subject.init_args.runs={runs}"]
    assert main(["evaluate", str(ROOT / "experiments" / "eval" / "throughput.yaml"), *run, *options, *metric]) == 0
    (file,) = (tmp_path / "out" / "throughput").glob("*/results.json")
    (result,) = json.loads(file.read_text())["results"]
    assert result["metric"] == "throughput"
    assert result["scores"]["overall"]["value"] > 0
    assert result["scores"]["batch"]["value"] == 2
    assert (result["protocol"]["subject"]["steps"], result["protocol"]["subject"]["width"]) == (3, 0.5)
    dtype = result["protocol"]["subject"]["dtype"]  # the dtype depends on the processor
    assert f"3 steps, guidance 1, {dtype}, 64x96 pixels, batches of 2, CPU" in capsys.readouterr().out
    assert (file.parent / "report.html").is_file()
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        stored = dict(database.execute("SELECT key, value FROM latest_metrics"))
    assert stored["throughput/overall"] == result["scores"]["overall"]["value"]

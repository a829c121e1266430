"""Tests that the Python API produces the images, runs, scores, exports, and one-line errors of the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from PIL import Image

import pocketdit
from pocketdit.api import export
from pocketdit.commands.main import main
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.tracking.journal import read_metrics
from tests.conftest import PRETRAIN, ROOT, tiny_overrides
from tests.export.conftest import COREML, tiny_run

PROMPTS = ["a red circle", "two green stars"]
HELD_OUT = ROOT / "experiments" / "eval" / "held_out.yaml"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that contains elastic_pretrain/t."""
    folder = tmp_path_factory.mktemp("api") / "runs"
    tiny_run(folder, "t")
    return folder


@pytest.fixture(scope="module")
def run(runs: Path) -> pocketdit.Run:
    return pocketdit.load("elastic_pretrain", runs=runs)


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_package_imports_neither_torch_nor_the_siblings() -> None:
    """Loading a run needs torch, but importing the package and looking up its functions do not."""
    heavy = ("torch", "lightning", "transformers", "diffusers", "datamodules", "evaluation", "sweeps", "PIL", "yaml")
    code = f"""
import sys
import pocketdit
assert not [name for name in {heavy} if name in sys.modules]
assert {{"load", "train", "evaluate", "Run", "Sample"}} <= set(dir(pocketdit))
pocketdit.load, pocketdit.train, pocketdit.evaluate
print([name for name in {heavy[:-1]} if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout == "[]\n"
    with pytest.raises(AttributeError, match="module 'pocketdit' has no attribute 'loads'"):
        pocketdit.loads  # noqa: B018


def test_images_are_those_of_the_command(run: pocketdit.Run, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    command = ["sample", "elastic_pretrain/t", "--runs", str(runs), "--prompts", str(tmp_path / "prompts.txt"),
               "--steps", "2", "--seeds", "3", "8", "--sampler", "euler", "--guidance", "1.5", "--out",
               str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 0
    options: dict[str, Any] = {"seeds": [3, 8], "steps": 2, "sampler": "euler", "guidance": 1.5}
    samples = run.sample(PROMPTS, **options)
    order = [(sample.width, sample.seed, sample.prompt) for sample in samples]
    assert order == [(width, seed, prompt) for width in (0.5, 1.0) for seed in (3, 8) for prompt in PROMPTS]
    for sample in samples:
        file = tmp_path / "out" / f"width_{sample.width:g}" / f"{PROMPTS.index(sample.prompt):05d}"
        assert np.array_equal(np.asarray(sample.image), pixels(file / f"{sample.seed:04d}.png"))
    tensor = run.sample(PROMPTS, widths=[1.0, 0.5], output="tensor", **options)
    assert tensor.shape == (2, 2, 2, 3, 64, 64)
    assert tensor.dtype == torch.uint8
    stacked = np.stack([np.asarray(sample.image) for sample in samples]).reshape(2, 2, 2, 64, 64, 3)
    assert np.array_equal(tensor.permute(0, 1, 2, 4, 5, 3).numpy(), stacked)


def test_defaults_are_the_settings_of_the_run(run: pocketdit.Run) -> None:
    assert run.widths == [0.5, 1.0]
    assert run.name == "elastic_pretrain/t"
    assert run.notice == "Drawn by A.\n"
    (sample,) = run.sample("a blue star", widths=0.5, steps=1, size=(64, 96))
    assert sample[:3] == ("a blue star", 0.5, run.experiment.sampling.seed)
    assert sample.image.size == (96, 64)
    assert len(run.sample(steps=1, widths=1)) == len(run.experiment.sampling.prompts)


def message(error: pytest.ExceptionInfo[UserError]) -> str:
    return str(error.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"widths": 0.7}, "widths 0.7: elastic_pretrain/t only has the widths 0.5, 1"),
        ({"seeds": [1, 1]}, "seeds 1: the seeds must be distinct and not negative"),
        ({"seeds": -1}, "seeds -1: the seeds must be distinct and not negative"),
        ({"steps": 0}, "steps must be from 1 to 10,000, not 0"),
        ({"size": (65, 64)}, "sampling.size: both sides must be multiples of"),
        ({"prompts": []}, "prompts must not be empty"),
        ({"sampler": "eular"}, "sampler: 'eular' is not one of"),
        ({"output": "jpg"}, "output: 'jpg' is neither 'pil' nor 'tensor'"),
    ],
)
def test_wrong_arguments_are_refused_before_the_weights_are_loaded(
    runs: Path, arguments: dict[str, Any], expected: str
) -> None:
    fresh = pocketdit.load("elastic_pretrain/t", runs=runs)
    with pytest.raises(ConfigError) as error:
        fresh.sample(**{"prompts": "a red circle", **arguments})
    assert message(error).startswith(expected)
    assert "_model" not in vars(fresh)


def test_errors_have_the_line_of_the_command(runs: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError) as missing:
        pocketdit.load("elastic_pretain", runs=runs)
    assert main(["sample", "elastic_pretain", "--runs", str(runs)]) == 1
    assert capsys.readouterr().err == f"lightning sample: {message(missing)}\n"

    for override, status in (("training.max_step=5", 2), ("data.init_args.path=nowhere", 2)):
        with pytest.raises(ConfigError) as wrong:
            pocketdit.train(PRETRAIN, [*tiny, override])
        assert main(["run", str(PRETRAIN), *tiny, override]) == status
        assert capsys.readouterr().err == f"lightning run: {message(wrong)}\n"

    with pytest.raises(ConfigError) as unused:
        pocketdit.evaluate(HELD_OUT, ["widht=0.5"])
    assert main(["evaluate", str(HELD_OUT), "widht=0.5"]) == 2
    assert capsys.readouterr().err == f"lightning evaluate: {message(unused)}\n"
    with pytest.raises(ConfigError, match="lora_scale nan: must be a finite number"):
        pocketdit.load("elastic_pretrain/t", runs=runs, lora_scale=float("nan"))
    with pytest.raises(RunError, match="elastic_pretrain/t has no LoRA whose scale could be changed"):
        pocketdit.load("elastic_pretrain/t", runs=runs, lora_scale=0.5).sample("a red circle", steps=1)
    with pytest.raises(ConfigError, match="pass a list of key=value strings or a mapping"):
        pocketdit.train(PRETRAIN, "training.max_steps=5")


def test_training_from_a_mapping_equals_the_command_and_resumes(scenes: Path, tmp_path: Path) -> None:
    overrides = tiny_overrides(scenes, tmp_path)
    assert main(["run", str(PRETRAIN), *overrides, "training.max_steps=2", "--name", "command"]) == 0
    content: dict[str, Any] = yaml.safe_load(PRETRAIN.read_text())
    values = {"training.max_steps": 1, **dict(item.split("=", 1) for item in overrides[:3])}
    changes = {key: value for key, value in values.items() if key != "training.max_steps"}
    rest = [item for item in overrides[3:] if not item.startswith("training.max_steps")]
    content = {**content, "runs": str(tmp_path / "runs")}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    first = pocketdit.train(file, [*rest, *(f"{key}={value}" for key, value in values.items())], name="api")
    assert first.name == "elastic_pretrain/api"
    resolved = yaml.safe_load(first.folder.config.read_text())
    again = pocketdit.train(resolved, {"training.max_steps": 2, **changes}, resume=first.name)
    expected = pocketdit.load("elastic_pretrain/command", runs=tmp_path / "runs")
    assert read_metrics(again.folder.metrics)["train/loss/width_1"] == read_metrics(expected.folder.metrics)["train/loss/width_1"]  # fmt: skip  # noqa: E501
    assert again.folder.weights.read_bytes() == expected.folder.weights.read_bytes()
    assert again.sample("a red circle", widths=0.5)[0].image.size == (128, 128)


@pytest.mark.slow
def test_scores_are_those_of_the_command(run: pocketdit.Run, runs: Path, tmp_path: Path) -> None:
    settings = {"steps": 1, "width": 0.5, "prompts.captions.init_args.count": 8, "resamples": 100,
                "tracking.uri": f"sqlite:///{tmp_path / 'm.db'}"}  # fmt: skip
    words = [f"{key}={value}" for key, value in settings.items()]
    command = ["evaluate", str(HELD_OUT), *words, f"run={run.folder.path}", f"out={tmp_path / 'command'}"]
    assert main(command) == 0
    (results,) = (tmp_path / "command" / "held_out").glob("*/results.json")
    report = run.evaluate(HELD_OUT, {**settings, "out": tmp_path / "api"})
    assert report is not None
    ours = {name: score.value for name, score in report.results[0].scores.items()}
    theirs = json.loads(results.read_text())["results"][0]["scores"]
    assert ours == {name: score["value"] for name, score in theirs.items()}


@pytest.mark.slow
def test_an_export_is_that_of_the_command(run: pocketdit.Run, runs: Path, tmp_path: Path) -> None:
    settings = {"width": 0.5, "runs": runs, "times": [0.6]}
    folder = run.export(COREML, {**settings, "out": tmp_path / "api"})
    words = [f"{key}={value}" for key, value in {**settings, "out": tmp_path / "command"}.items()]
    assert main(["export", str(COREML), "run=elastic_pretrain/t", *words]) == 0
    assert folder.parent == tmp_path / "api"
    weights = [path.relative_to(tmp_path / "api") for path in folder.rglob("weight.bin")]
    assert len(weights) == 3
    for path in weights:
        assert (tmp_path / "api" / path).read_bytes() == (tmp_path / "command" / path).read_bytes()
    described = export(COREML, {**settings, "run": "elastic_pretrain/t", "out": tmp_path / "again"})
    assert isinstance(described, Path)
    assert described.name == folder.name

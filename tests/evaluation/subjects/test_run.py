"""Tests for a tiny run as the subject of an evaluation."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.contract import Prompt, PromptSet, open_image
from evaluation.subjects.run import Run
from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.artifacts.weights import load_weights, save_weights
from pocketdit.commands.main import main
from pocketdit.config.component import Component
from pocketdit.errors import ConfigError, RunError, UserError

SIZED = PromptSet(
    "sized",
    (
        Prompt("a", "a red circle", {"width": 160, "height": 96}),
        Prompt("b", "a blue star"),
        Prompt("c", "a green square", {"width": 160, "height": 96}),
    ),
    images_each=2,
)


def test_images_have_the_sizes_of_their_prompts_and_do_not_depend_on_the_batch_size(runs: Path, tmp_path: Path) -> None:
    subject = Run("elastic_pretrain", width=0.5, steps=2, guidance=1.5, seed=3, runs=runs)
    images = subject.images(SIZED, tmp_path / "images")
    shapes = {name: {open_image(path).shape for path in paths} for name, paths in images.images.items()}
    assert shapes == {"a": {(96, 160, 3)}, "b": {(128, 128, 3)}, "c": {(96, 160, 3)}}
    first, second = (open_image(path) for path in images.images["a"])
    assert (first != second).any()
    single = Run("elastic_pretrain", width=0.5, steps=2, guidance=1.5, seed=3, batch_size=1, runs=runs)
    again = single.images(SIZED, tmp_path / "single")
    for name in ("a", "b", "c"):
        for path, other in zip(images.images[name], again.images[name], strict=True):
            assert np.abs(open_image(path).astype(int) - open_image(other)).max() <= 1
    provenance = images.provenance
    assert (provenance["width"], provenance["steps"], provenance["guidance"], provenance["seed"]) == (0.5, 2, 1.5, 3)
    assert len(provenance["weights_sha256"]) == 64
    assert Run("elastic_pretrain", seed=4, runs=runs).provenance() != Run("elastic_pretrain", runs=runs).provenance()


def test_the_provenance_depends_on_the_encoders_and_their_files(runs: Path, tmp_path: Path) -> None:
    """A run's weights do not include its encoders, whose files can change while their path stays the same."""
    subject = Run("elastic_pretrain", runs=runs)
    experiment = subject.experiment
    made = [subject.provenance()]
    folder = tmp_path / "autoencoder"
    folder.mkdir()
    for size in (10, 20):
        (folder / "config.json").write_text("{}")
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"0" * size)
        kl = Component("pocketdit.encoders.vae.DiffusersAutoencoder", {"repository": str(folder), "kind": "flux"})
        subject.experiment = replace(experiment, autoencoder=kl)
        made.append(subject.provenance())
        assert made[-1] == subject.provenance()
    text = [replace(component, init_args={"max_tokens": 5}) for component in experiment.text_encoders]
    subject.experiment = replace(experiment, text_encoders=tuple(text))
    made.append(subject.provenance())
    assert len({json.dumps(provenance) for provenance in made}) == 4


def test_size_that_the_network_does_not_accept_is_refused(runs: Path, tmp_path: Path) -> None:
    """Rounding the size down would produce an image of a size that the prompt does not request."""
    prompts = PromptSet("odd", (Prompt("a", "a star"), Prompt("b", "a star", {"width": 100, "height": 96})))
    with pytest.raises(ConfigError, match=r"prompt b: .*multiples of"):
        Run("elastic_pretrain", width=0.5, steps=1, runs=runs).images(prompts, tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_prompts_that_the_text_encoders_cut_are_counted(runs: Path, tmp_path: Path) -> None:
    encoders = load_experiment(find(runs, "elastic_pretrain")).text_encoders
    lengths = [component.init_args["max_tokens"] for component in encoders]
    texts = ["red " * max(lengths), "red " * (max(lengths) + 1), "red " * (min(lengths) + 1), ""]
    prompts = PromptSet("long", tuple(Prompt(f"{i}", text.strip()) for i, text in enumerate(texts)))
    expected = {
        f"text_encoders.{i}": sum(len(text.split()) > length for text in texts) for i, length in enumerate(lengths)
    }
    for _ in range(2):  # the second iteration only loads the text encoders
        subject = Run("elastic_pretrain", width=0.5, steps=1, guidance=1.0, runs=runs)
        assert subject.images(prompts, tmp_path / "images").provenance["truncated_prompts"] == expected
    assert subject._loaded is None
    assert sum(expected.values()) > 0


def test_a_run_whose_weights_are_not_finite_is_not_scored(runs: Path, tmp_path: Path) -> None:
    """Neither NaN in the weights nor an overflow while sampling may become black images."""
    folder = find(runs, "elastic_pretrain")
    weights = load_weights(folder.weights)
    name = next(name for name in weights if name.endswith("weight"))
    for value, message in (
        (float("nan"), f"{name} contains NaN or infinity"),
        (1e38, "images contain NaN or infinity"),
    ):
        save_weights(folder.weights, weights | {name: torch.full_like(weights[name], value)})
        with pytest.raises(RunError, match=message):
            Run("elastic_pretrain", steps=1, runs=runs).images(SIZED, tmp_path / "images")
        out = tmp_path / "sample.png"
        assert main(["sample", "elastic_pretrain", "--runs", str(runs), "--out", str(out)]) == 1
        assert not out.exists()
    assert not list((tmp_path / "images").rglob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"run": ""}, "run: not set; add run=EXPERIMENT"),
        ({"run": "elastic_pretrain", "width": 0.3}, "width=0.3: .* only has the widths 0.5, 1"),
    ],
)
def test_invalid_runs_are_reported(arguments: dict[str, Any], message: str, runs: Path) -> None:
    with pytest.raises(UserError, match=message):
        Run(**arguments, runs=runs)


def test_sampling_settings_of_the_run_are_the_default(runs: Path) -> None:
    provenance = Run("elastic_pretrain", runs=runs).provenance()
    own = load_experiment(find(runs, "elastic_pretrain")).sampling
    default = (provenance["steps"], provenance["sampler"], provenance["guidance"])
    assert default == (own.steps, own.sampler, own.guidance) != (3, "heun", 1)
    overridden = Run("elastic_pretrain", steps=3, sampler="heun", guidance=1.0, runs=runs).provenance()
    assert (overridden["steps"], overridden["sampler"], overridden["guidance"]) == (3, "heun", 1.0)

"""A tiny run as the subject of an evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.contract import Prompt, PromptSet, open_image
from evaluation.subjects.run import Run
from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.errors import UserError

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

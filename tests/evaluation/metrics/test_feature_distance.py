"""The feature distance of drawn pictures, through DINOv2's own classes in small and through thumbnails."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from evaluation.contract import Backend, ImageArray, ImageSet, Prompt, PromptSet, open_image
from evaluation.metrics.feature_distance import FeatureDistance
from evaluation.metrics.frechet import Gaussian, frechet_distance
from evaluation.metrics.kernel_distance import kernel_distance
from evaluation.metrics.reference import open_source
from pocketdit.config.component import Component, build
from pocketdit.errors import UserError
from tests.evaluation.judges.test_dinov2 import SMALL, published_state
from tests.evaluation.metrics.test_reference import Thumbnail


def drawn(folder: Path, count: int, picture: Callable[[int], ImageArray]) -> ImageSet:
    """Two pictures of each prompt."""
    prompts = tuple(Prompt(f"p{i}", f"a scene {i}") for i in range(count))
    images = {}
    for i, prompt in enumerate(prompts):
        files = [folder / prompt.id / f"{n}.png" for n in range(2)]
        files[0].parent.mkdir(parents=True)
        for n, file in enumerate(files):
            Image.fromarray(picture(2 * i + n)).save(file)
        images[prompt.id] = tuple(files)
    return ImageSet(PromptSet("scenes", prompts, images_each=2), images, {})


def test_both_distances_are_those_of_the_features(scenes: Path, tmp_path: Path) -> None:
    validation = open_source(scenes, "validation")
    images = drawn(tmp_path / "images", 8, validation.picture)
    metric = FeatureDistance("scenes", Thumbnail(), scenes, kept=tmp_path / "kept", subsets=7, subset_size=10, seed=3)
    found = metric.score(images)
    source = open_source(scenes)
    real = Thumbnail().encode_images([source.picture(i) for i in range(source.count)])
    drawn_ = Thumbnail().encode_images([open_image(p) for paths in images.images.values() for p in paths])
    expected = frechet_distance(Gaussian.from_samples(drawn_), Gaussian.from_samples(real))
    assert found.scores["overall"].value == pytest.approx(expected, rel=1e-9)
    kernel = kernel_distance(drawn_, real, subsets=7, subset_size=10, seed=3)
    assert found.scores["kernel"].value == pytest.approx(kernel.mean, rel=1e-9)
    assert found.metric == "fd (thumbnail)"
    assert not found.higher_is_better
    assert found.scores["overall"].samples == 16 and not found.scores["overall"].by_prompt
    protocol = json.loads(json.dumps(found.protocol))
    assert protocol["samples"] == 16 and protocol["reference_samples"] == 64
    assert protocol["reference"].startswith("scenes-train-thumbnail-")
    assert (protocol["encoder"], protocol["encoder_version"]) == ("thumbnail", "2x2")
    assert protocol["kernel"] | {"kernel": ""} == {
        "kernel": "",
        "subsets": 7,
        "subset_size": 10,
        "std": kernel.std,
        "seed": 3,
    }


def test_a_copy_is_nearer_than_noise(scenes: Path, tmp_path: Path) -> None:
    source = open_source(scenes)
    random = np.random.default_rng(0)
    sets = {
        "copy": drawn(tmp_path / "copy", 32, source.picture),
        "noise": drawn(tmp_path / "noise", 32, lambda _: random.integers(0, 256, (128, 128, 3), dtype=np.uint8)),
    }
    metric = FeatureDistance("scenes", Thumbnail(), scenes, kept=tmp_path / "kept")
    values = {name: metric.score(images).scores["overall"].value for name, images in sets.items()}
    assert values["copy"] < 1e-6 < 100 < values["noise"]


def test_the_bare_name_is_only_for_the_published_network(scenes: Path, tmp_path: Path) -> None:
    encoder = Thumbnail()
    images = drawn(tmp_path / "images", 4, open_source(scenes).picture)
    encoder.backend = Backend("vit_large_patch14_dinov2", "sha256 0", ("dino-fid",))
    assert FeatureDistance("scenes", encoder, scenes, kept=tmp_path / "kept").score(images).metric == "dino-fid"
    encoder.backend = Backend("vit_base_patch14_dinov2", "sha256 0")
    metric = FeatureDistance("scenes", encoder, scenes, kept=tmp_path / "kept")
    assert metric.score(images).metric == "fd (vit_base_patch14_dinov2)"


def test_a_configuration_builds_it_with_dinov2(scenes: Path, tmp_path: Path) -> None:
    """Fewer pictures than dimensions on both sides, as in a quick look."""
    save_file(published_state(), tmp_path / "dinov2.safetensors")
    init_args = {
        "prompts": "scenes",
        "encoder": Component(
            "evaluation.judges.dinov2.DinoV2", {"weights": str(tmp_path / "dinov2.safetensors"), "model": SMALL}
        ),
        "reference": str(scenes),
        "split": "validation",
        "reference_samples": 10,
        "kept": str(tmp_path / "kept"),
    }
    metric = build(Component("evaluation.metrics.feature_distance.FeatureDistance", init_args))
    images = drawn(tmp_path / "images", 4, open_source(scenes).picture)
    found = metric.score(images)
    assert found.metric == f"fd ({SMALL})"
    assert found.protocol["dimensions"] == 32 and found.protocol["reference_samples"] == 10
    assert "224x224 bicubic" in found.protocol["encoder_version"]
    assert 0 < found.scores["overall"].value < np.inf
    again = metric.score(images)
    assert again.scores["overall"].value == pytest.approx(found.scores["overall"].value, rel=1e-6)
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_a_prompt_without_pictures_is_an_error(scenes: Path, tmp_path: Path) -> None:
    images = drawn(tmp_path / "images", 4, open_source(scenes).picture)
    some = {name: paths for name, paths in images.images.items() if name != "p2"}
    metric = FeatureDistance("scenes", Thumbnail(), scenes, kept=tmp_path / "kept")
    with pytest.raises(UserError, match="1 prompts have no pictures, the first p2"):
        metric.score(ImageSet(images.prompts, some, {}))

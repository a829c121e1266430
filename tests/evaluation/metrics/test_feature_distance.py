"""Tests the feature distance of rendered scenes, with thumbnails and with the features of a small DINOv2."""

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
from evaluation.metrics.image_source import open_source
from evaluation.metrics.kernel_distance import kernel_distance
from pocketdit.config.component import Component, build
from pocketdit.errors import UserError
from tests.evaluation.judges.test_dinov2 import SMALL, published_state
from tests.evaluation.metrics.test_reference import Thumbnail


def save_images(folder: Path, count: int, read: Callable[[int], ImageArray]) -> ImageSet:
    """Save two images for each of ``count`` prompts."""
    prompts = tuple(Prompt(f"p{i}", f"a scene {i}") for i in range(count))
    images = {}
    for i, prompt in enumerate(prompts):
        files = [folder / prompt.id / f"{n}.png" for n in range(2)]
        files[0].parent.mkdir(parents=True)
        for n, file in enumerate(files):
            Image.fromarray(read(2 * i + n)).save(file)
        images[prompt.id] = tuple(files)
    return ImageSet(PromptSet("scenes", prompts, images_each=2), images, {})


def test_both_distances_are_computed_from_the_features(scenes: Path, tmp_path: Path) -> None:
    validation = open_source(scenes, "validation")
    images = save_images(tmp_path / "images", 8, validation.read)
    metric = FeatureDistance("scenes", Thumbnail(), scenes, kept=tmp_path / "kept", subsets=7, subset_size=10, seed=3)
    result = metric.score(images)
    source = open_source(scenes)
    real = Thumbnail().encode_images([source.read(i) for i in range(source.count)])
    features = Thumbnail().encode_images([open_image(p) for paths in images.images.values() for p in paths])
    expected = frechet_distance(Gaussian.from_samples(features), Gaussian.from_samples(real))
    assert result.scores["overall"].value == pytest.approx(expected, rel=1e-9)
    kernel = kernel_distance(features, real, subsets=7, subset_size=10, seed=3)
    assert result.scores["kernel"].value == pytest.approx(kernel.mean, rel=1e-9)
    assert result.metric == "fd (thumbnail)"
    assert not result.higher_is_better
    assert result.scores["overall"].samples == 16
    assert not result.scores["overall"].by_prompt
    protocol = json.loads(json.dumps(result.protocol))
    assert protocol["samples"] == 16
    assert protocol["reference_samples"] == 64
    assert protocol["reference"].startswith("scenes-train-thumbnail-")
    assert (protocol["encoder"], protocol["encoder_version"]) == ("thumbnail", "2x2")
    assert protocol["kernel"] | {"kernel": ""} == {
        "kernel": "",
        "subsets": 7,
        "subset_size": 10,
        "std": kernel.std,
        "seed": 3,
    }


def test_copies_are_closer_than_noise(scenes: Path, tmp_path: Path) -> None:
    source = open_source(scenes)
    random = np.random.default_rng(0)
    sets = {
        "copy": save_images(tmp_path / "copy", 32, source.read),
        "noise": save_images(tmp_path / "noise", 32, lambda _: random.integers(0, 256, (128, 128, 3), dtype=np.uint8)),
    }
    metric = FeatureDistance("scenes", Thumbnail(), scenes, kept=tmp_path / "kept")
    values = {name: metric.score(images).scores["overall"].value for name, images in sets.items()}
    assert values["copy"] < 1e-6 < 100 < values["noise"]


def test_only_the_published_network_yields_the_bare_name(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Thumbnail()
    images = save_images(tmp_path / "images", 4, open_source(scenes).read)
    encoder.backend = Backend("vit_large_patch14_dinov2", "sha256 0", ("dino-fid",))
    result = FeatureDistance("scenes", encoder, scenes, kept=tmp_path / "kept").score(images)
    assert result.metric == "dino-fid"
    (note,) = result.notes
    assert note.startswith("Computed from 8 images and 64 reference images. Published values use 50,000 of each")
    with monkeypatch.context() as patch:
        patch.setattr("evaluation.metrics.feature_distance.PUBLISHED_SAMPLES", 8)
        assert not FeatureDistance("scenes", encoder, scenes, kept=tmp_path / "kept").score(images).notes
    encoder.backend = Backend("vit_base_patch14_dinov2", "sha256 0")
    metric = FeatureDistance("scenes", encoder, scenes, kept=tmp_path / "kept")
    assert metric.score(images).metric == "fd (vit_base_patch14_dinov2)"


def test_metric_is_built_from_a_configuration_with_dinov2(scenes: Path, tmp_path: Path) -> None:
    """Both sets have fewer images than the features have dimensions."""
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
    images = save_images(tmp_path / "images", 4, open_source(scenes).read)
    result = metric.score(images)
    assert result.metric == f"fd ({SMALL})"
    assert result.protocol["dimensions"] == 32
    assert result.protocol["reference_samples"] == 10
    assert "224x224 bicubic" in result.protocol["encoder_version"]
    assert 0 < result.scores["overall"].value < np.inf
    again = metric.score(images)
    assert again.scores["overall"].value == pytest.approx(result.scores["overall"].value, rel=1e-6)
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_prompt_without_images_is_an_error(scenes: Path, tmp_path: Path) -> None:
    images = save_images(tmp_path / "images", 4, open_source(scenes).read)
    incomplete = {name: paths for name, paths in images.images.items() if name != "p2"}
    metric = FeatureDistance("scenes", Thumbnail(), scenes, kept=tmp_path / "kept")
    with pytest.raises(UserError, match=r"1 prompt without images \(the first is p2\)"):
        metric.score(ImageSet(images.prompts, incomplete, {}))

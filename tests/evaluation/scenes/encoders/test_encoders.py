"""Tests the shipped scene encoders on held-out scenes, and the encoders' components separately."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import train_scene_encoders
from benchmarks.train_scene_encoders import corrupt_image
from datamodules.scenes.render import render_scene
from datamodules.scenes.scene import Scene
from datamodules.scenes.split import generate_scenes
from evaluation.contract import ImageArray, result_name
from evaluation.scenes.encoders.clip import SceneClip
from evaluation.scenes.encoders.features import SceneFeatures
from evaluation.scenes.encoders.letterbox import border_color, letterbox
from evaluation.scenes.encoders.tokenizer import WordTokenizer, vocabulary
from evaluation.scenes.encoders.weight_files import WEIGHTS, load_weights, save_weights
from pocketdit.errors import UserError

HELD_OUT = list(generate_scenes("validation", 400, seed=2))


def render(scene: Scene) -> ImageArray:
    return np.asarray(render_scene(scene))


@pytest.fixture(scope="module")
def clip() -> SceneClip:
    return SceneClip()


@pytest.fixture(scope="module")
def features() -> SceneFeatures:
    return SceneFeatures()


def test_shipped_weights_are_small_and_half_precision() -> None:
    files = sorted(WEIGHTS.glob("*.safetensors"))
    assert [file.name for file in files] == ["clip.safetensors", "features.safetensors"]
    assert sum(file.stat().st_size for file in files) < 2e6
    for file in files:
        tensors, metadata, version = load_weights(file)
        assert metadata["trained"]["seed"] == 0
        assert len(version) == 12
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize(("kind", "threshold"), [(0, 0.95), (1, 0.85)], ids=["short", "long"])
def test_clip_finds_the_caption_of_a_held_out_image_among_fifty(clip: SceneClip, kind: int, threshold: float) -> None:
    """Chance level is 0.02. On 500 images, the measured accuracy was 0.998 for short and 0.954 for long captions."""
    by_caption = {sample.captions[kind]: sample.scene for sample in HELD_OUT}
    captions = list(by_caption)[:50]
    images = clip.encode_images([render(by_caption[caption]) for caption in captions])
    texts = clip.encode_texts(captions)
    assert images.shape == texts.shape == (50, 64)
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([images, texts]), axis=1), 1, atol=1e-5)
    assert np.mean((images @ texts.T).argmax(axis=1) == np.arange(50)) >= threshold


def test_clip_prefers_the_correct_color(clip: SceneClip) -> None:
    scene = next(s.scene for s in HELD_OUT if s.captions[0].startswith("a ") and len(s.scene.objects) == 1)
    (item,) = scene.objects
    texts = [f"a {color} {item.shape}" for color in ("red", "yellow", "green", "blue", "purple", "pink")]
    best = texts[int((clip.encode_texts(texts) @ clip.encode_images([render(scene)])[0]).argmax())]
    assert item.color in best


def frechet(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Compute |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) with a symmetric matrix under the square root."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    s1, s2 = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ s2 @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * shared)


@pytest.fixture(scope="module")
def reference(features: SceneFeatures) -> NDArray[np.float32]:
    return features.encode_images([render(sample.scene) for sample in generate_scenes("validation", 400, seed=1)])


@pytest.mark.parametrize(
    ("noises", "blurs"), [((0, 5, 10, 20, 40, 80), (0,) * 6), ((0,) * 4, (0, 1, 2, 4))], ids=["noise", "blur"]
)
def test_frechet_distance_grows_with_noise_and_blur(
    features: SceneFeatures, reference: NDArray[np.float32], noises: tuple[int, ...], blurs: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    distances = [
        frechet(reference, features.encode_images([corrupt_image(render(s.scene), noise, blur, rng) for s in HELD_OUT]))
        for noise, blur in zip(noises, blurs, strict=True)
    ]
    assert all(less < more for less, more in pairwise(distances))
    assert distances[-1] > 10 * distances[0]


def test_frechet_distance_grows_with_missing_objects(features: SceneFeatures, reference: NDArray[np.float32]) -> None:
    rng = np.random.default_rng(0)
    distances = []
    for share in (0, 0.1, 0.25, 0.5):
        remaining = [tuple(item for item in s.scene.objects if rng.random() >= share) for s in HELD_OUT]
        images = [render(dataclasses.replace(s.scene, objects=o)) for s, o in zip(HELD_OUT, remaining, strict=True)]
        distances.append(frechet(reference, features.encode_images(images)))
    assert all(1.5 * less < more for less, more in pairwise(distances))


def test_encoders_accept_images_of_any_size_and_empty_lists(clip: SceneClip, features: SceneFeatures) -> None:
    images = [np.zeros(shape, np.uint8) for shape in ((40, 300, 3), (7, 5, 3), (512, 512, 3))]
    for encoder, width in ((clip, 64), (features, 96)):
        assert encoder.encode_images(images).shape == (3, width)
        assert encoder.encode_images([]).shape == (0, width)
        together = encoder.encode_images([render(s.scene) for s in HELD_OUT[:3]])
        alone = encoder.encode_images([render(HELD_OUT[2].scene)])
        np.testing.assert_allclose(together[2:], alone, atol=1e-4)
    assert clip.encode_texts([]).shape == (0, 64)
    assert np.isfinite(clip.encode_texts(["", "x" * 900])).all()


def test_names_of_results_contain_the_judge(clip: SceneClip, features: SceneFeatures) -> None:
    assert result_name("clip-score", clip.backend) == "clip-score (scene-clip)"
    assert result_name("fid", features.backend) == "fid (scene-features)"


def test_letterbox_keeps_proportions_and_fills_with_the_border() -> None:
    pixels = np.full((40, 80, 3), (10, 20, 30), np.uint8)
    pixels[10:30, 30:50] = 255
    assert border_color(pixels) == (10, 20, 30)
    (square,) = letterbox([pixels], 40)
    assert square.shape == (3, 40, 40)
    fill = torch.tensor([10.0, 20.0, 30.0]) / 127.5 - 1
    torch.testing.assert_close(square[:, 0, 20], fill)
    torch.testing.assert_close(square[:, 39, 20], fill)
    bright = square.mean(dim=0) > 0.5
    assert bright.any(dim=1).sum() == bright.any(dim=0).sum() == 10


def test_tokenizer_and_vocabulary() -> None:
    tokenizer = WordTokenizer(["circle", "red"], 6)
    assert tokenizer.size == 6
    assert tokenizer(["A red, circle.", "", "red red red red red"]).tolist() == [
        [1, 2, 4, 3, 5, 0],
        [1, 5, 0, 0, 0, 0],
        [1, 4, 4, 4, 4, 5],
    ]
    assert tokenizer.count_truncated(["red red red red", "a red, red circle!", "red red red red red", ""]) == 1
    words = vocabulary()
    assert words == sorted(set(words))
    assert {"circle", "crosses", "grey", "four"} <= set(words)
    text = WordTokenizer(words, 72)([sample.captions[1] for sample in HELD_OUT])
    assert not (text == 2).any()
    assert (text[:, -1] == 0).all()


def test_training_command_writes_weights_that_the_encoders_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_scene_encoders, "BATCH_SIZE", 4)
    assert train_scene_encoders.main(["--steps", "2", "--out", str(tmp_path)]) == 0
    clip, features = SceneClip(tmp_path / "clip.safetensors"), SceneFeatures(tmp_path / "features.safetensors")
    assert clip.backend.version != SceneClip().backend.version
    assert clip.encode_texts(["a red circle"]).shape == (1, 64)
    assert features.encode_images([render(HELD_OUT[0].scene)]).shape == (1, 96)


def test_weights_are_restored_and_invalid_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    save_weights(path, {"a": torch.tensor([0.1, 2.0]), "n": torch.tensor(3)}, {"x": [1]})
    tensors, metadata, _ = load_weights(path)
    torch.testing.assert_close(tensors["a"], torch.tensor([0.1, 2.0]), atol=1e-4, rtol=1e-3)
    assert tensors["n"].item() == 3
    assert metadata == {"x": [1]}
    path.write_bytes(b"not weights")
    for invalid in (path, tmp_path / "none.safetensors"):
        with pytest.raises(UserError, match="train_scene_encoders"):
            SceneClip(invalid)

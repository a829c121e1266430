"""Tests a decoder's losses against hand-computed values."""

import math

import pytest
import torch

from pocketdit.losses.adversarial import decoder_adversarial_loss, discriminator_loss
from pocketdit.losses.reconstruction import charbonnier_loss, psnr


def test_charbonnier_equals_hand_computed_values() -> None:
    images, target = torch.tensor([[0.0, 0.3]]), torch.tensor([[0.0, -0.1]])
    assert charbonnier_loss(images, target, 0.3) == pytest.approx((0.3 + 0.5) / 2 - 0.3)
    assert charbonnier_loss(images, images) == 0
    # The loss is about |error| for large errors and error^2 / (2 epsilon) for small ones.
    assert charbonnier_loss(torch.ones(3), -torch.ones(3)) == pytest.approx(2, rel=0.01)
    assert charbonnier_loss(torch.full((2,), 1e-3), torch.zeros(2)) == pytest.approx(1e-6 / 0.02, rel=0.01)


def test_psnr_equals_hand_computed_values() -> None:
    """An error of one tenth of the range corresponds to 20 dB, regardless of the other images in the batch."""
    target = torch.zeros(2, 3, 4, 4)
    images = torch.stack([target[0] + 0.2, target[1] + 0.02])
    torch.testing.assert_close(psnr(images, target), torch.tensor([20.0, 40.0]))


def test_hinge_losses_equal_hand_computed_values() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 1.0])
    assert discriminator_loss(real, fake) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)
    assert decoder_adversarial_loss(fake) == pytest.approx(1 / 3)
    assert math.isclose(decoder_adversarial_loss(torch.tensor([4.0])), -4.0)

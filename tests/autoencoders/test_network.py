"""Tests for the small autoencoder: shapes, normalization, and that a latent position does not affect distant pixels."""

import pytest
import torch

from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.autoencoders.spec import AutoencoderSpec

SPEC = AutoencoderSpec(channels=(4, 8, 8), blocks=(1, 0, 1), latent_channels=3)


@pytest.fixture
def network() -> ConvAutoencoder:
    torch.manual_seed(0)
    return ConvAutoencoder(SPEC).requires_grad_(False)


def test_latents_are_smaller_by_the_factor(network: ConvAutoencoder) -> None:
    images = torch.rand(2, 3, 48, 32)
    latents = network.encode(images)
    assert SPEC.factor == 8
    assert latents.shape == (2, 3, 6, 4)
    assert network.decode(latents).shape == images.shape
    with pytest.raises(ValueError, match="multiples of 8"):
        network.encode(torch.rand(1, 3, 20, 32))


def test_statistics_normalize_the_latents_without_changing_the_reconstruction(network: ConvAutoencoder) -> None:
    images = torch.rand(8, 3, 32, 32)
    raw = network.encode(images)  # the initial statistics do not change the latents
    before = network.decode(raw)
    network.update_statistics(raw, momentum=1.0)
    latents = network.encode(images)
    std, mean = torch.std_mean(latents, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(network.decode(latents), before, atol=1e-4, rtol=1e-4)


def test_statistics_move_by_the_momentum(network: ConvAutoencoder) -> None:
    raw = torch.randn(4, 3, 5, 5) * 2 + 1
    network.update_statistics(raw, momentum=0.25)
    torch.testing.assert_close(network.mean, 0.25 * raw.mean((0, 2, 3)))
    torch.testing.assert_close(network.variance, 0.75 + 0.25 * raw.var((0, 2, 3), correction=0))


def test_the_default_has_less_than_two_megabytes_in_half_precision() -> None:
    with torch.device("meta"):
        parameters = sum(value.numel() for value in ConvAutoencoder(AutoencoderSpec()).state_dict().values())
    assert 2 * parameters < 2e6


def test_a_latent_position_affects_its_surroundings_across_borders(network: ConvAutoencoder) -> None:
    latents = torch.zeros(1, 3, 9, 9)
    changed = latents.clone()
    changed[..., 4, 4] = 5.0
    difference = (network.decode(changed) - network.decode(latents)).abs().sum((0, 1))
    assert difference[:, 31].any()  # column 31 is left of the 8x8 pixels of position 4, which begin at column 32
    assert not difference[0].any()


@pytest.mark.parametrize(
    ("channels", "blocks", "message"),
    [((), (), "at least one level"), ((4, 8), (1,), "one number per level"), ((0,), (1,), "channels must be from 1")],
)
def test_invalid_specifications(channels: tuple[int, ...], blocks: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoencoderSpec(channels, blocks)

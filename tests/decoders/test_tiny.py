"""Tests for the tiny decoder: size, layers, shapes, and the autoencoder interface."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pocketdit.config.experiment import DecoderExperiment
from pocketdit.config.load import load
from pocketdit.decoders.spec import TinyDecoderSpec
from pocketdit.decoders.tiny import SeparableBlock, SeparableUpsample, TinyDecoder
from pocketdit.decoders.tiny_autoencoder import TinyDecoderAutoencoder
from pocketdit.encoders.contract import Autoencoder
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.training.cost import count_parameters
from tests.conftest import ROOT

SMALL = TinyDecoderSpec(channels=(8, 6), blocks=(1, 2), latent_channels=4, factor=8)


def spec_of(name: str) -> TinyDecoderSpec:
    return load(ROOT / "experiments" / f"{name}.yaml", [], DecoderExperiment).config.decoder


def random_decoder(spec: TinyDecoderSpec) -> TinyDecoder:
    """Return a decoder with random weights, so that no branch outputs zero."""
    torch.manual_seed(0)
    decoder = TinyDecoder(spec)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    return decoder


def test_size_matches_the_paper() -> None:
    """SnapGen's tiny decoder has 1.38 M parameters."""
    spec = spec_of("paper/tiny_decoder_qwen_image")
    assert (spec.latent_channels, spec.factor, spec.pixel_shuffle) == (16, 8, 1)
    with torch.device("meta"):
        assert count_parameters(TinyDecoder(spec)) == pytest.approx(1.4e6, rel=0.1)


@pytest.mark.parametrize("name", ["tiny_decoder", "paper/tiny_decoder_qwen_image"])
def test_only_the_first_and_last_convolutions_are_dense(name: str) -> None:
    with torch.device("meta"):
        decoder = TinyDecoder(spec_of(name))
    convolutions = [layer for layer in decoder.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions[1:-1]:
        assert layer.kernel_size == (1, 1) or layer.groups == layer.in_channels == layer.out_channels
    kinds = {type(layer) for layer in decoder.modules()}
    assert kinds <= {TinyDecoder, nn.Sequential, nn.Conv2d, nn.ReLU, nn.PixelShuffle, SeparableBlock, SeparableUpsample}


@pytest.mark.parametrize("sides", [(1, 1), (3, 5), (16, 8)])
@pytest.mark.parametrize("spec", [SMALL, replace(SMALL, channels=(8,) * 4, blocks=(1,) * 4)])
def test_any_size_works(spec: TinyDecoderSpec, sides: tuple[int, int]) -> None:
    images = random_decoder(spec)(torch.randn(2, 4, *sides))
    assert images.shape == (2, 3, 8 * sides[0], 8 * sides[1])


def test_cropped_latents_give_the_same_pixels() -> None:
    """The decoder uses no statistics of the whole image, so distant latents do not affect a pixel."""
    decoder, latents = random_decoder(SMALL), torch.randn(1, 4, 24, 24)
    full, crop = decoder(latents), decoder(latents[..., :16, :16])
    torch.testing.assert_close(full[..., :48, :48], crop[..., :48, :48])
    assert not torch.allclose(full[..., :128, :128], crop)


def test_blocks_are_initialized_to_the_identity() -> None:
    x = torch.randn(2, 8, 5, 5)
    block = SeparableBlock(8)
    assert block.mix_2.bias is not None
    nn.init.zeros_(block.mix_2.bias)
    torch.testing.assert_close(block(x), x)


def test_upsampling_commutes_with_the_pointwise_convolution() -> None:
    layer, x = SeparableUpsample(4, 6), torch.randn(1, 4, 3, 3)
    expected = layer.spatial(layer.mix(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")))
    torch.testing.assert_close(layer(x), expected)


def test_autoencoder_with_tiny_decoder_satisfies_the_protocol() -> None:
    decoder = random_decoder(replace(SMALL, latent_channels=16))
    autoencoder: Autoencoder = TinyDecoderAutoencoder(DCTAutoencoder(), decoder)
    assert (autoencoder.channels, autoencoder.factor) == (16, 8)
    latents = 100 * autoencoder.encode(torch.rand(2, 3, 32, 16) * 2 - 1)
    with torch.autocast("cpu", torch.bfloat16):
        images = autoencoder.decode(latents)
    assert images.shape == (2, 3, 32, 16)
    assert images.dtype == torch.float32
    assert images.abs().max() == 1 < decoder(latents).abs().max()
    torch.testing.assert_close(images, decoder(latents).clamp(-1, 1))
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ()}, "one number per level"),
        ({"blocks": (1,)}, "one number per level"),
        ({"channels": (8, 0)}, "channels must be from 1 to 65,536, not 0"),
        ({"channels": (8,) * 5, "blocks": (1,) * 5}, "factor must be a multiple of 16 for 5 levels, not 8"),
    ],
)
def test_invalid_specifications_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)

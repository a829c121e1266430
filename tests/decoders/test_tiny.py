"""The tiny decoder by itself: its size, its layers, its shapes, and its half of the autoencoder's contract."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pocketdit.config.experiment import DecoderExperiment
from pocketdit.config.load import load
from pocketdit.decoders.paired import WithTinyDecoder
from pocketdit.decoders.spec import TinyDecoderSpec
from pocketdit.decoders.tiny import Block, Enlarge, TinyDecoder
from pocketdit.encoders.contract import Autoencoder
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.running.cost_estimate import count_parameters
from tests.conftest import ROOT

SMALL = TinyDecoderSpec(channels=(8, 6), blocks=(1, 2), latent_channels=4, factor=8)


def shipped(name: str) -> TinyDecoderSpec:
    return load(ROOT / "experiments" / f"{name}.yaml", [], DecoderExperiment).config.decoder


def noisy(spec: TinyDecoderSpec) -> TinyDecoder:
    """With no branch at zero."""
    torch.manual_seed(0)
    decoder = TinyDecoder(spec)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    return decoder


def test_the_papers_size() -> None:
    """SnapGen's tiny decoder has 1.38 M."""
    spec = shipped("paper/tiny_decoder_qwen_image")
    assert (spec.latent_channels, spec.factor, spec.shuffle) == (16, 8, 1)
    with torch.device("meta"):
        assert count_parameters(TinyDecoder(spec)) == pytest.approx(1.4e6, rel=0.1)


@pytest.mark.parametrize("name", ["tiny_decoder", "paper/tiny_decoder_qwen_image"])
def test_only_the_first_and_the_last_convolution_are_dense(name: str) -> None:
    with torch.device("meta"):
        decoder = TinyDecoder(shipped(name))
    convolutions = [layer for layer in decoder.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions[1:-1]:
        assert layer.kernel_size == (1, 1) or layer.groups == layer.in_channels == layer.out_channels
    kinds = {type(layer) for layer in decoder.modules()}
    assert kinds <= {TinyDecoder, nn.Sequential, nn.Conv2d, nn.ReLU, nn.PixelShuffle, Block, Enlarge}


@pytest.mark.parametrize("sides", [(1, 1), (3, 5), (16, 8)])
@pytest.mark.parametrize("spec", [SMALL, replace(SMALL, channels=(8,) * 4, blocks=(1,) * 4)])
def test_any_size(spec: TinyDecoderSpec, sides: tuple[int, int]) -> None:
    images = noisy(spec)(torch.randn(2, 4, *sides))
    assert images.shape == (2, 3, 8 * sides[0], 8 * sides[1])


def test_a_window_gives_the_same_pixels_where_it_sees_the_same() -> None:
    """No statistic of a whole picture: what lies far away changes nothing."""
    decoder, latents = noisy(SMALL), torch.randn(1, 4, 24, 24)
    whole, window = decoder(latents), decoder(latents[..., :16, :16])
    torch.testing.assert_close(whole[..., :48, :48], window[..., :48, :48])
    assert not torch.allclose(whole[..., :128, :128], window)


def test_blocks_begin_as_the_identity() -> None:
    x = torch.randn(2, 8, 5, 5)
    block = Block(8)
    nn.init.zeros_(block.mix_2.bias)  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), x)


def test_enlarging_first_or_mixing_first_is_the_same() -> None:
    layer, x = Enlarge(4, 6), torch.randn(1, 4, 3, 3)
    slow = layer.spatial(layer.mix(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")))
    torch.testing.assert_close(layer(x), slow)


def test_the_contract() -> None:
    decoder = noisy(replace(SMALL, latent_channels=16))
    autoencoder: Autoencoder = WithTinyDecoder(DCTAutoencoder(), decoder)
    assert (autoencoder.channels, autoencoder.factor) == (16, 8)
    latents = 100 * autoencoder.encode(torch.rand(2, 3, 32, 16) * 2 - 1)
    with torch.autocast("cpu", torch.bfloat16):
        images = autoencoder.decode(latents)
    assert images.shape == (2, 3, 32, 16) and images.dtype == torch.float32
    assert images.abs().max() == 1 < decoder(latents).abs().max()
    torch.testing.assert_close(images, decoder(latents).clamp(-1, 1))
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ()}, "one number a level"),
        ({"blocks": (1,)}, "one number a level"),
        ({"channels": (8, 0)}, "must be positive"),
        ({"channels": (8,) * 5, "blocks": (1,) * 5}, "5 levels enlarge too much for a factor of 8"),
    ],
)
def test_wrong_descriptions(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)

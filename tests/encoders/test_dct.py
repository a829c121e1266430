"""Tests for the DCT autoencoder: orthonormal transforms, geometry, the autoencoder interface, and export."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from pocketdit.encoders.contract import Autoencoder
from pocketdit.encoders.dct import COLORS, DCTAutoencoder, analysis_kernel, dct_matrix, zigzag
from pocketdit.images import from_uint8


def example_image(width: int = 128, height: int = 96) -> Tensor:
    """Render a bright image (1, 3, H, W) in [-1, 1] that shows a red disc and a blue box with smooth edges."""
    image = Image.new("RGB", (4 * width, 4 * height), (235, 235, 225))
    brush = ImageDraw.Draw(image)
    brush.ellipse((60, 40, 220, 200), fill=(210, 40, 40))
    brush.rectangle((280, 190, 450, 340), fill=(40, 70, 200))
    return from_uint8(torch.from_numpy(np.array(image.reduce(4))).permute(2, 0, 1)[None])


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(((a - b) / 2).square().mean().item())


def test_transforms_are_orthonormal() -> None:
    torch.testing.assert_close(dct_matrix(8) @ dct_matrix(8).T, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(COLORS @ COLORS.T, torch.eye(3, dtype=torch.float64))
    rows = analysis_kernel().flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(16, dtype=torch.float64))


def test_zigzag_order_matches_jpeg() -> None:
    assert zigzag(8)[:10] == [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (0, 3), (1, 2), (2, 1), (3, 0)]
    assert len(set(zigzag(8))) == 64


def test_constant_image_has_only_dc_coefficients() -> None:
    autoencoder = DCTAutoencoder(scale=2.0)
    gray = autoencoder.encode(torch.full((1, 3, 16, 24), 0.5))
    expected = torch.zeros(1, 16, 2, 3)
    expected[:, 0] = 0.5 * 8 * math.sqrt(3) / 2.0
    torch.testing.assert_close(gray, expected, atol=1e-5, rtol=0)
    red = torch.tensor([1.0, -1.0, -1.0])[None, :, None, None].expand(1, 3, 8, 8)
    nonzero = autoencoder.encode(red)[0, :, 0, 0].abs() > 1e-5
    assert nonzero.nonzero().flatten().tolist() == [0, 10, 13]


def test_center_encodes_to_zero_and_does_not_change_reconstructions() -> None:
    autoencoder = DCTAutoencoder(center=0.25)
    torch.testing.assert_close(autoencoder.encode(torch.full((1, 3, 8, 8), 0.25)), torch.zeros(1, 16, 1, 1))
    smooth = example_image()
    plain = DCTAutoencoder()
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(smooth)), plain.decode(plain.encode(smooth)))
    with pytest.raises(ValueError, match="center"):
        DCTAutoencoder(center=2.0)


def test_the_center_of_images_follows_from_their_mean_latent() -> None:
    autoencoder = DCTAutoencoder(scale=2.1, center=0.53)
    images = example_image() * 0.5 - 0.2
    center = autoencoder.centered(float(autoencoder.encode(images)[:, 0].mean()))
    assert center == pytest.approx(float(images.mean()), abs=1e-5)
    assert float(DCTAutoencoder(2.1, center).encode(images)[:, 0].mean()) == pytest.approx(0, abs=1e-5)
    assert autoencoder.centered(-100.0) == -1


def test_luma_channels_are_the_dct_of_the_block() -> None:
    from scipy.fft import dctn

    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    reference = dctn(image[0].sum(0).numpy() / math.sqrt(3), norm="ortho")
    latent = DCTAutoencoder(scale=1.0).encode(image)[0, :10, 0, 0]
    np.testing.assert_allclose(latent.numpy(), [reference[cell] for cell in zigzag(8)[:10]], atol=1e-5)


def test_encode_is_linear() -> None:
    autoencoder = DCTAutoencoder()
    a, b = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        autoencoder.encode(0.3 * a - 2 * b), 0.3 * autoencoder.encode(a) - 2 * autoencoder.encode(b)
    )


def test_decode_then_encode_is_the_identity_where_nothing_is_clamped() -> None:
    autoencoder = DCTAutoencoder()
    latents = 0.2 * torch.randn(2, 16, 3, 5, generator=torch.Generator().manual_seed(2))
    images = autoencoder.decode(latents)
    assert images.abs().max() < 1
    torch.testing.assert_close(autoencoder.encode(images), latents, atol=1e-5, rtol=0)


def test_encode_then_decode_is_an_orthogonal_projection() -> None:
    autoencoder = DCTAutoencoder()
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(3)) - 0.5
    once = autoencoder.decode(autoencoder.encode(images))
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(once)), once, atol=1e-5, rtol=0)
    assert ((images - once) * once).mean().abs() < 1e-6
    assert (images - once).square().mean() > 0.01


@pytest.mark.parametrize("size", [(8, 8), (96, 160), (128, 104)])
def test_any_multiple_of_eight_works(size: tuple[int, int]) -> None:
    autoencoder: Autoencoder = DCTAutoencoder()
    latents = autoencoder.encode(torch.zeros(2, 3, *size))
    assert latents.shape == (2, autoencoder.channels, size[0] // 8, size[1] // 8)
    assert autoencoder.decode(latents).shape == (2, 3, *size)


def test_sides_that_are_not_multiples_of_eight_are_rejected() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        DCTAutoencoder().encode(torch.zeros(1, 3, 8, 12))


def test_decode_clamps() -> None:
    latents = 20 * torch.randn(1, 16, 2, 2, generator=torch.Generator().manual_seed(4))
    decoded = DCTAutoencoder().decode(latents)
    assert decoded.min() == -1
    assert decoded.max() == 1


def test_example_image_is_reconstructed_well() -> None:
    image = example_image()
    autoencoder = DCTAutoencoder()
    assert psnr(autoencoder.decode(autoencoder.encode(image)), image) > 26


def test_encoder_stays_in_float32_under_autocast() -> None:
    autoencoder = DCTAutoencoder()
    image = example_image()
    with torch.autocast("cpu", torch.bfloat16):
        latents = autoencoder.encode(image)
    torch.testing.assert_close(latents, autoencoder.encode(image))


def test_autoencoder_has_no_weights_and_stays_in_eval_mode() -> None:
    autoencoder = DCTAutoencoder().train()
    assert not autoencoder.state_dict()
    assert not list(autoencoder.parameters())
    assert not autoencoder.training


def test_gradients_reach_the_latents() -> None:
    latents = torch.zeros(1, 16, 2, 2, requires_grad=True)
    torch.autograd.backward(DCTAutoencoder().decode(latents).sum())
    assert latents.grad is not None
    assert latents.grad[:, 0].abs().min() > 0


def test_decoder_can_be_exported() -> None:
    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.autoencoder = DCTAutoencoder()

        def forward(self, latents: Tensor) -> Tensor:
            return self.autoencoder.decode(latents)

    latents = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(5))
    exported = torch.export.export(Decoder(), (latents,))
    torch.testing.assert_close(exported.module()(latents), DCTAutoencoder().decode(latents))

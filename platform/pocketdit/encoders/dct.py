"""An autoencoder without weights, whose latents are the lowest-frequency DCT coefficients of 8x8 blocks.

It replaces a trained VAE in runs that should not download anything. It has the same interface, 16 channels, and latents
whose sides are 8 times smaller than the image's. It assumes only that images are smooth and is not meant for
photographs.

Shape letters: B = batch, H x W = image sides in pixels, h x w = latent sides.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pocketdit.encoders.contract import FrozenModule

BLOCK = 8
# Transform to opponent colors. Its rows are orthonormal, so it preserves distances between colors.
COLORS = torch.tensor(
    [
        [1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)],
        [-1 / math.sqrt(6), -1 / math.sqrt(6), 2 / math.sqrt(6)],
        [1 / math.sqrt(2), -1 / math.sqrt(2), 0.0],
    ],
    dtype=torch.float64,
)
COEFFICIENTS = (10, 3, 3)
"""Number of luma, blue-yellow, and red-green coefficients to keep, in zigzag order."""


def dct_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II matrix (frequency, position) in float64."""
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    position = torch.arange(size, dtype=torch.float64)[None, :]
    matrix = torch.cos(math.pi * (position + 0.5) * frequency / size) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def zigzag(size: int) -> list[tuple[int, int]]:
    """Return the (row, column) of every coefficient of a block in JPEG's order of increasing frequency."""
    cells = [(row, column) for row in range(size) for column in range(size)]
    return sorted(cells, key=lambda cell: (sum(cell), cell[0] if sum(cell) % 2 else cell[1]))


def analysis_kernel() -> Tensor:
    """Return the kernel (16, 3, 8, 8) of the encoder's stride-8 convolution in float64. Its rows are orthonormal."""
    dct = dct_matrix(BLOCK)
    rows = []
    for color, count in zip(COLORS, COEFFICIENTS, strict=True):
        for row, column in zigzag(BLOCK)[:count]:
            rows.append(color[:, None, None] * dct[row][:, None] * dct[column][None, :])
    return torch.stack(rows)


class DCTAutoencoder(FrozenModule):
    """Encodes images to 10 luma, 3 blue-yellow, and 3 red-green coefficients per block, divided by ``scale``.

    All channels share the same scale on purpose. If each channel had unit variance, fine edges would matter as much as
    the layout.

    Apart from the shift by ``center`` and the clamp, encoding is linear and decoding is its transpose. Therefore,
    ``decode(encode(x))`` is an orthogonal projection of ``x`` wherever nothing is clamped.

    Args:
        scale: Divisor of all coefficients.
        center: Gray level, from -1 (black) to 1 (white), whose latents are zero. The mean of images with light
            backgrounds is above middle gray. For the project's rendered scenes, a center of 0.5 makes the mean of every
            channel about zero.
    """

    channels: int = sum(COEFFICIENTS)
    factor: int = BLOCK
    kernel: Tensor

    def __init__(self, scale: float = 2.1, center: float = 0.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale must be positive, not {scale}")
        if not -1 <= center <= 1:
            raise ValueError(f"center must be a gray level from -1 to 1, not {center}")
        self.scale = scale
        self.center = center
        self.register_buffer("kernel", analysis_kernel().float(), persistent=False)
        self.freeze()

    def centered(self, mean: float) -> float:
        """Return the ``center`` that shifts the mean of the first latent channel from ``mean`` to 0."""
        center = self.center + mean * self.scale / (BLOCK * math.sqrt(3))  # the mean gray level of the images
        return min(max(center, -1.0), 1.0)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to latents (B, 16, H/8, W/8). H and W must be multiples of 8."""
        if images.shape[-2] % BLOCK or images.shape[-1] % BLOCK:
            raise ValueError(f"image sides must be multiples of {BLOCK}, not {tuple(images.shape[-2:])}")
        # In bf16, rounding errors in the large DC coefficients would be visible.
        with torch.autocast(images.device.type, enabled=False):
            return functional.conv2d(images.float() - self.center, self.kernel, stride=BLOCK) / self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, 16, h, w) to images (B, 3, 8h, 8w), clamped to [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            images = functional.conv_transpose2d(latents.float() * self.scale, self.kernel, stride=BLOCK)
        return (images + self.center).clamp(-1, 1)

"""An autoencoder without weights: the lowest DCT coefficients of 8x8 blocks.

It stands in for a trained VAE where nothing can be downloaded: same contract, same geometry (8 times smaller,
16 channels), but no knowledge of images beyond their smoothness. Not meant for photographs.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pocketdit.encoders.contract import Frozen

BLOCK = 8
# Opponent colours with orthonormal rows, so that distances between latents are distances between images.
COLORS = torch.tensor(
    [
        [1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)],
        [-1 / math.sqrt(6), -1 / math.sqrt(6), 2 / math.sqrt(6)],
        [1 / math.sqrt(2), -1 / math.sqrt(2), 0.0],
    ],
    dtype=torch.float64,
)
COEFFICIENTS = (10, 3, 3)
"""How many coefficients of luma, blue-yellow and red-green are kept, in zig-zag order."""


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II, (frequency, position), float64."""
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    position = torch.arange(size, dtype=torch.float64)[None, :]
    matrix = torch.cos(math.pi * (position + 0.5) * frequency / size) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def zigzag(size: int) -> list[tuple[int, int]]:
    """(row, column) of every coefficient of a block, in JPEG's order of rising frequency."""
    cells = [(row, column) for row in range(size) for column in range(size)]
    return sorted(cells, key=lambda cell: (sum(cell), cell[0] if sum(cell) % 2 else cell[1]))


def analysis_kernel() -> Tensor:
    """The encoder as one stride-8 convolution, (16, 3, 8, 8), float64. Its rows are orthonormal."""
    dct = dct_matrix(BLOCK)
    rows = []
    for color, count in zip(COLORS, COEFFICIENTS, strict=True):
        for row, column in zigzag(BLOCK)[:count]:
            rows.append(color[:, None, None] * dct[row][:, None] * dct[column][None, :])
    return torch.stack(rows)


class DCTAutoencoder(Frozen):
    """Channels: 10 luma, 3 blue-yellow, 3 red-green coefficients, all divided by one ``scale``.

    One scale for all channels on purpose: at unit variance each, the fine edges would be as loud as the
    layout. ``center``: the grey level (-1 black, 1 white) whose latents are zero; pictures on light backgrounds
    have their mean above mid-grey. On the project's drawn scenes, center 0.5 makes every channel's mean about zero;
    ``SCENES_STD`` are the standard deviations then.

    Encoding is linear, and decoding is its transpose but for the clamp, so ``decode(encode(x))`` is the
    orthogonal projection of ``x`` wherever nothing is clamped.
    """

    channels: int = sum(COEFFICIENTS)
    factor: int = BLOCK
    kernel: Tensor

    def __init__(self, scale: float = 2.1, center: float = 0.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale must be positive, not {scale}")
        if not -1 <= center <= 1:
            raise ValueError(f"center must be a grey level from -1 to 1, not {center}")
        self.scale = scale
        self.center = center
        self.register_buffer("kernel", analysis_kernel().float(), persistent=False)
        self.freeze()

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], sides multiples of 8 -> latents (B, 16, H/8, W/8)."""
        if images.shape[-2] % BLOCK or images.shape[-1] % BLOCK:
            raise ValueError(f"image sides must be multiples of {BLOCK}, not {tuple(images.shape[-2:])}")
        # bf16 would round the large DC coefficients visibly.
        with torch.autocast(images.device.type, enabled=False):
            return functional.conv2d(images.float() - self.center, self.kernel, stride=BLOCK) / self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, 16, h, w) -> images (B, 3, 8h, 8w), clamped to [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            images = functional.conv_transpose2d(latents.float() * self.scale, self.kernel, stride=BLOCK)
        return (images + self.center).clamp(-1, 1)

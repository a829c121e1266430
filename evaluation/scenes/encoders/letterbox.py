"""Combines images of any size into one batch of square images."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evaluation.contract import ImageArray
from pocketdit.images import from_uint8

_EDGE = 3  # width in pixels of the border that determines the background color


def letterbox(images: Sequence[ImageArray], side: int) -> Tensor:
    """Scale and pad N images to (N, 3, side, side) in [-1, 1].

    The longer side is scaled to ``side`` (bilinear, antialiased), and the rest is filled with the median color of the
    border. This neither stretches shapes nor adds edges.
    """
    return torch.stack([_letterbox(image, side) for image in images]) if images else torch.empty(0, 3, side, side)


def _letterbox(image: ImageArray, side: int) -> Tensor:
    height, width, _ = image.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new("RGB", (side, side), border_color(image))
    scaled = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    canvas.paste(scaled, ((side - size[0]) // 2, (side - size[1]) // 2))
    return from_uint8(torch.from_numpy(np.array(canvas)).permute(2, 0, 1))


def border_color(image: ImageArray) -> tuple[int, int, int]:
    """Return the median color, per channel, of the three outermost rows and columns on each side."""
    strips = (image[:_EDGE], image[-_EDGE:], image[:, :_EDGE], image[:, -_EDGE:])
    red, green, blue = np.median(np.concatenate([strip.reshape(-1, 3) for strip in strips]), axis=0)
    return int(red), int(green), int(blue)

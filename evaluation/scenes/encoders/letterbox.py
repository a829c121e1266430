"""Pictures of any sizes as one batch of squares."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evaluation.contract import ImageArray

_EDGE = 3  # pixels of border that tell the background


def letterbox(pictures: Sequence[ImageArray], side: int) -> Tensor:
    """N pictures -> (N, 3, side, side) in [-1, 1].

    The longer side is scaled to ``side`` (bilinear, antialiased) and the rest filled with the border's median
    colour, so that no shape is stretched and no edge drawn that the picture has not.
    """
    return torch.stack([_framed(picture, side) for picture in pictures]) if pictures else torch.empty(0, 3, side, side)


def _framed(picture: ImageArray, side: int) -> Tensor:
    height, width, _ = picture.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new("RGB", (side, side), border_color(picture))
    scaled = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    canvas.paste(scaled, ((side - size[0]) // 2, (side - size[1]) // 2))
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1) / 127.5 - 1


def border_color(picture: ImageArray) -> tuple[int, int, int]:
    """Median of the three outermost rows and columns, channel by channel."""
    strips = (picture[:_EDGE], picture[-_EDGE:], picture[:, :_EDGE], picture[:, -_EDGE:])
    red, green, blue = np.median(np.concatenate([strip.reshape(-1, 3) for strip in strips]), axis=0)
    return int(red), int(green), int(blue)

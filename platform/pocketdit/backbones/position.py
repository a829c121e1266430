"""Where a token is: rotary embedding for distances, and a sine-cosine code for the place in the picture.

RoPE alone tells tokens only how far apart they are, so that "top left" would mean nothing.
Shape letters: B batch, H heads, N tokens, D hidden size, E channels of a head.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def rotation(height: int, width: int, head_dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every token's angles, both (height * width, head_dim / 2), in raster order.

    Positions are whole token indices from the top left corner, so any aspect ratio runs (axial RoPE).
    """
    with torch.inference_mode(False), torch.no_grad():
        frequencies = theta ** -(torch.arange(0, head_dim // 4, device=device) / (head_dim // 4))
        rows = torch.arange(height, device=device)[:, None] * frequencies
        columns = torch.arange(width, device=device)[:, None] * frequencies
        angles = torch.cat(
            [rows[:, None, :].expand(-1, width, -1), columns[None, :, :].expand(height, -1, -1)], dim=-1
        ).reshape(height * width, head_dim // 2)
        return angles.cos(), angles.sin()


def rotate(x_BHNE: Tensor, cos_NF: Tensor, sin_NF: Tensor) -> Tensor:
    """Turn the channel pairs (e, e + E/2) of every token by its angles; norms of the pairs stay as they are."""
    cos, sin = cos_NF.to(x_BHNE.dtype), sin_NF.to(x_BHNE.dtype)
    first, second = x_BHNE.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


@lru_cache(maxsize=64)
def positional_embedding(height: int, width: int, hidden: int, device: torch.device) -> Tensor:
    """Sine-cosine code of every token's place, (height * width, hidden), for the patch embedding (PixArt).

    Places are shares of the sides, (index + 1/2) / side, so the code means the same at every resolution. A quarter
    of the channels each: sine and cosine of the row, sine and cosine of the column, half a wave to 16 waves a side.
    """
    with torch.inference_mode(False), torch.no_grad():
        waves = math.pi * 2.0 ** torch.linspace(0, 5, hidden // 4, device=device)
        rows = (torch.arange(height, device=device) + 0.5)[:, None] / height * waves
        columns = (torch.arange(width, device=device) + 0.5)[:, None] / width * waves
        by_row = torch.cat([rows.sin(), rows.cos()], dim=1)[:, None].expand(-1, width, -1)
        by_column = torch.cat([columns.sin(), columns.cos()], dim=1)[None].expand(height, -1, -1)
        return torch.cat([by_row, by_column], dim=2).reshape(height * width, hidden)

"""Two-dimensional rotary position embedding: half of a head's channels turn with the row, half with the column.

Shape letters: B batch, H heads, N tokens, E channels of a head.
"""

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

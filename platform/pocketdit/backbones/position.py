"""Token positions: rotary embeddings for relative positions and sine-cosine embeddings for absolute positions.

RoPE represents only the offsets between tokens, so without absolute positions, "top left" would have no meaning.

Shape letters: B = batch, H = heads, N = tokens, E = channels per head, D = hidden size.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn


@lru_cache(maxsize=64)
def axial_rope(height: int, width: int, head_dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute the cosine and sine of every token's rotation angles (axial RoPE).

    Positions are integer token indices from the top-left corner, so any aspect ratio works.

    Args:
        height: Rows of the token grid.
        width: Columns of the token grid.
        head_dim: Channels per head E, a multiple of 4. Half of the angles encode the row and half the column.
        theta: Base of the geometric frequency sequence.
        device: Device of the result.

    Returns:
        Cosine and sine, each (height * width, head_dim / 2), with tokens in raster order.
    """
    with torch.inference_mode(False), torch.no_grad():
        frequencies = theta ** -(torch.arange(0, head_dim // 4, device=device) / (head_dim // 4))
        rows = torch.arange(height, device=device)[:, None] * frequencies
        columns = torch.arange(width, device=device)[:, None] * frequencies
        angles = torch.cat(
            [rows[:, None, :].expand(-1, width, -1), columns[None, :, :].expand(height, -1, -1)], dim=-1
        ).reshape(height * width, head_dim // 2)
        return angles.cos(), angles.sin()


def apply_rope(x_BHNE: Tensor, cos_NF: Tensor, sin_NF: Tensor) -> Tensor:
    """Rotate the channel pairs (e, e + E/2) of every token by its F = E/2 angles, which preserves their norms."""
    cos = torch.cat([cos_NF, cos_NF], dim=-1).to(x_BHNE.dtype)
    sin = torch.cat([-sin_NF, sin_NF], dim=-1).to(x_BHNE.dtype)
    return torch.addcmul(x_BHNE * cos, x_BHNE.roll(cos_NF.shape[-1], dims=-1), sin)


@lru_cache(maxsize=64)
def time_frequencies(count: int, device: torch.device) -> Tensor:
    """Return the frequencies (count,) of the sinusoidal time embedding, from 1 down to nearly 1/10000."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.exp(-math.log(10_000) * torch.arange(count, device=device) / count)


class RotaryEmbedding(nn.Module):
    """``apply_rope`` as a module, so that an export can replace it with an operation of the target runtime."""

    def forward(self, x_BHNE: Tensor, cos_NF: Tensor, sin_NF: Tensor) -> Tensor:
        """Rotate the channels of every token."""
        return apply_rope(x_BHNE, cos_NF, sin_NF)


@lru_cache(maxsize=64)
def positional_embedding(height: int, width: int, hidden: int, device: torch.device) -> Tensor:
    """Compute the sine-cosine embedding that is added to the patch embedding (as in PixArt).

    Positions are relative to the size of the image, (index + 1/2) / side, so the embedding has the same meaning at
    every resolution. The row's sine and cosine and the column's sine and cosine each take a quarter of the channels,
    with frequencies from half a wave to 16 waves per side.

    Args:
        height: Rows of the token grid.
        width: Columns of the token grid.
        hidden: Hidden size D, a multiple of 4.
        device: Device of the result.

    Returns:
        Embedding (height * width, D), with tokens in raster order.
    """
    with torch.inference_mode(False), torch.no_grad():
        frequencies = math.pi * 2.0 ** torch.linspace(0, 5, hidden // 4, device=device)
        rows = (torch.arange(height, device=device) + 0.5)[:, None] / height * frequencies
        columns = (torch.arange(width, device=device) + 0.5)[:, None] / width * frequencies
        row_embedding = torch.cat([rows.sin(), rows.cos()], dim=1)[:, None].expand(-1, width, -1)
        column_embedding = torch.cat([columns.sin(), columns.cos()], dim=1)[None].expand(height, -1, -1)
        return torch.cat([row_embedding, column_embedding], dim=2).reshape(height * width, hidden)

"""Limits of Apple's Neural Engine, according to third parties."""

from collections.abc import Sequence

MAX_RANK, MAX_SIDE = 5, 16384


def why_elsewhere(dtype: str, shape: Sequence[int]) -> str:
    """Return why the Neural Engine cannot process a tensor, or "" if it can.

    Args:
        dtype: Type as named in a census. The engine computes only in FLOAT16.
        shape: Shape of the tensor. The engine supports at most five axes and 16384 elements per axis.
    """
    if len(shape) > MAX_RANK:
        return f"rank {len(shape)}"
    if max(shape, default=0) > MAX_SIDE:
        return f"side {max(shape)}"
    return "" if dtype.startswith("FLOAT16") else dtype

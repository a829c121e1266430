"""Check that weights fit into the range of float16."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pocketdit.errors import ConfigError

LARGEST = torch.finfo(torch.float16).max


def require_float16_range(weights: Mapping[str, Tensor], source: str) -> None:
    """Check that float16 can hold all weights, which would otherwise become infinite.

    Args:
        weights: Weights by name.
        source: The run or experiment that they belong to, for the message.

    Raises:
        ConfigError: A weight is too large. The message names it and its largest value.
    """
    for name, value in weights.items():
        largest = float(value.abs().max()) if value.is_floating_point() and value.numel() else 0.0
        if not largest <= LARGEST:
            raise ConfigError(
                f"precision=float16: {name} of {source} contains {largest:.4g}, but float16 only holds values up to "
                f"{LARGEST:g}; use precision=float32"
            )

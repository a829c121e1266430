"""Check that weights fit into the range of float16."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pocketdit.errors import ConfigError

LARGEST = torch.finfo(torch.float16).max


def require_float16_range(weights: Mapping[str, Tensor], source: str) -> None:
    """Check that all weights are within the range of float16. A weight outside this range would become infinite.

    Args:
        weights: State dict or other named weights.
        source: Name of the run or experiment that contains the weights, for the error message.

    Raises:
        ConfigError: A weight is too large. The message contains the tensor's name and largest value.
    """
    for name, value in weights.items():
        largest = float(value.abs().max()) if value.is_floating_point() and value.numel() else 0.0
        if not largest <= LARGEST:
            raise ConfigError(
                f"precision=float16: {name} of {source} contains {largest:.4g}, but the largest float16 number is "
                f"{LARGEST:g}; use precision=float32"
            )

"""Exponential moving average of the backbone alone (frozen encoders and teachers have no place in it)."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def averaged_copy(network: Network) -> Network:
    """A frozen copy that will follow ``network``; a plain submodule, so checkpoints hold it like any weights."""
    return copy.deepcopy(network).requires_grad_(False)


def decay_at(step: int, decay: float) -> float:
    """The decay after ``step`` updates: short memory at first, so that the start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def follow(average: Sequence[Tensor], live: Sequence[Tensor], decay: float) -> None:
    """average <- decay * average + (1 - decay) * live, in place."""
    torch._foreach_lerp_(list(average), list(live), 1 - decay)

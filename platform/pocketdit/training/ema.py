"""Exponential moving average (EMA) of the weights of a trained network."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def ema_copy(network: NetworkT) -> NetworkT:
    """Return a frozen copy of ``network`` to hold its EMA weights.

    The copy is an ordinary submodule of the stage, so checkpoints include it.
    """
    return copy.deepcopy(network).requires_grad_(False)


def ema_decay(step: int, decay: float) -> float:
    """Return the decay for update number ``step``, counted from 0.

    It starts low, so that the initial weights are forgotten quickly, and rises to ``decay``.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(ema: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """Update in place: ema <- decay * ema + (1 - decay) * weights."""
    torch._foreach_lerp_(list(ema), list(weights), 1 - decay)

"""Exponential moving average (EMA) of a network's weights."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def ema_copy(network: NetworkT) -> NetworkT:
    """Return a frozen copy of ``network`` for its EMA weights.

    A stage registers the copy as an ordinary submodule, so checkpoints include it. Weights that are not trained, such
    as the base weights of a LoRA, are shared with ``network``.
    """
    shared = {id(parameter): parameter for parameter in network.parameters() if not parameter.requires_grad}
    return copy.deepcopy(network, shared).requires_grad_(False)


def ema_decay(step: int, decay: float) -> float:
    """Return the decay for update number ``step``, counting from 0.

    The decay starts low, so that the initial weights are quickly forgotten, and rises to ``decay``.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(ema: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """Update the EMA weights in place: ema <- decay * ema + (1 - decay) * weights."""
    torch._foreach_lerp_(list(ema), list(weights), 1 - decay)

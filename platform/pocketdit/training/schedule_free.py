"""The averaged weights of schedule-free optimizers (Defazio et al. 2024, "The Road Less Scheduled").

A schedule-free optimizer computes gradients at the weights y, which lie between an iterate z and its running average x.
Only x is meant to be used after training. The ``schedulefree`` package would switch the network between y and x in
place, with rounding errors, for every validation. Here, the network always stays at y, and x replaces the EMA weights.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def is_schedule_free(optimizer: Optimizer) -> bool:
    """Return whether an optimizer is schedule-free, so that it averages the weights itself."""
    return "train_mode" in optimizer.param_groups[0]


@torch.no_grad()
def copy_averaged(optimizer: Optimizer, ema: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> None:
    """Copy the averaged weights x to the EMA weights: x = y + (1 - 1 / beta) (z - y).

    Args:
        optimizer: A schedule-free optimizer.
        ema: The EMA weights, which are replaced.
        weights: The trained weights y. A weight that has not received a gradient yet has no z, and its x equals y.
    """
    momentum = dict(_momentum(optimizer))
    for average, weight in zip(ema, weights, strict=True):
        z = optimizer.state[weight].get("z", weight)
        torch.lerp(weight, z, 1 - 1 / momentum[id(weight)], out=average)


def _momentum(optimizer: Optimizer) -> Iterator[tuple[int, float]]:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield id(parameter), group["betas"][0]

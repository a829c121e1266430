"""One optimizer step, the same in every stage: learning rate, clipping, a look at the gradient before it counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from pocketdit.config.experiment import Training
from pocketdit.training.nonfinite import stop_unless_finite
from pocketdit.training.schedule import rate_factor
from pocketdit.training.sharding import fill_state, full_tensor


def ready(optimizer: Optimizer) -> Optimizer:
    """The optimizer with the rates that the schedule scales, and its state made where weights are sharded."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    if any(isinstance(parameter, DTensor) for group in optimizer.param_groups for parameter in group["params"]):
        fill_state(optimizer)
    return optimizer


def update(
    module: LightningModule,
    groups: Mapping[str, Sequence[nn.Parameter]],
    spec: Training,
    batch: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Steps the module's optimizer. Returns what to log: under its name every group's gradient norm, before the
    group is clipped by itself, and the learning rate's factor.

    A group without gradients is left as it is. Raises ``RunError`` where a gradient is not finite: nothing has moved.
    """
    optimizer = module.optimizers()
    assert not isinstance(optimizer, list)
    factor = rate_factor(module.global_step, spec.warmup_steps, spec.max_steps, spec.decay, spec.final_rate)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    norms = {
        name: full_tensor(torch.nn.utils.clip_grad_norm_(parameters, spec.clip_norm))
        for name, parameters in groups.items()
        if any(parameter.grad is not None for parameter in parameters)
    }
    stop_unless_finite(norms, batch, module)
    optimizer.step()
    optimizer.zero_grad()
    return norms | {"rate_factor": torch.tensor(factor)}

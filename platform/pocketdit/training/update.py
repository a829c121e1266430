"""One optimizer step, the same in every stage: learning rate, gradient clipping, and a check of the gradient."""

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
from pocketdit.training.sharding import full_tensor, init_state


def prepare_optimizer(optimizer: Optimizer) -> Optimizer:
    """Record the rates that the schedule scales and, if the weights are sharded, create the optimizer state."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    if any(isinstance(parameter, DTensor) for group in optimizer.param_groups for parameter in group["params"]):
        init_state(optimizer)
    return optimizer


def batch_number(module: LightningModule, batch_idx: int) -> int:
    """Return the number of batches before this one since training began, over all epochs and resumes.

    ``batch_idx`` starts again at 0 in every epoch of a data loader that ends.
    """
    trainer = module._trainer
    return batch_idx if trainer is None else trainer.fit_loop.epoch_loop.total_batch_idx


def update_weights(
    module: LightningModule,
    groups: Mapping[str, Sequence[nn.Parameter]],
    training: Training,
    batch: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Take a step of the module's optimizer.

    Args:
        module: The stage that is trained.
        groups: Parameters by the name that their gradient norm is logged under. Each group is clipped on its own; a
            group without gradients is skipped.
        training: Learning-rate schedule and clipping norm.
        batch: The current batch, saved if a gradient is not finite.

    Returns:
        What to log: each group's gradient norm before clipping, and the factor on the learning rate.

    Raises:
        RunError: A gradient is not finite. No weight has changed.
    """
    optimizer = module.optimizers()
    assert not isinstance(optimizer, list)
    factor = rate_factor(
        module.global_step, training.warmup_steps, training.max_steps, training.decay, training.final_rate
    )
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    norms = {
        name: full_tensor(torch.nn.utils.clip_grad_norm_(parameters, training.clip_norm))
        for name, parameters in groups.items()
        if any(parameter.grad is not None for parameter in parameters)
    }
    stop_unless_finite(norms, batch, module)
    optimizer.step()
    optimizer.zero_grad()
    return norms | {"rate_factor": torch.tensor(factor)}

"""The optimizer step shared by all stages: learning rate, gradient clipping, and a check for non-finite gradients."""

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
    """Record the initial learning rates for the schedule, and create the optimizer state of sharded weights."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    if any(isinstance(parameter, DTensor) for group in optimizer.param_groups for parameter in group["params"]):
        init_state(optimizer)
    return optimizer


def batch_number(module: LightningModule, batch_idx: int) -> int:
    """Return how many batches preceded this one since training began, across epochs and resumes.

    In contrast, ``batch_idx`` restarts at 0 in every epoch.
    """
    trainer = module._trainer
    return batch_idx if trainer is None else trainer.fit_loop.epoch_loop.total_batch_idx


def draw_position(module: LightningModule, seed: int, number: int) -> tuple[int, int, int]:
    """Return the seed of a batch's random draws, which includes its position among the batches of all processes.

    The processes take turns, as in the order of the data. Therefore, a step of one process that accumulates R * A
    batches makes the same draws as a step of R processes that accumulate A batches each.

    Args:
        module: The stage being trained.
        seed: Seed of the run.
        number: Index of the batch in this process (see ``batch_number``).
    """
    trainer = module._trainer
    ranks = 1 if trainer is None else trainer.world_size
    # In earlier versions, the last number was the rank. It is kept at 0, so that runs with one process still make the
    # same draws.
    return (seed, number * ranks + module.global_rank, 0)


def update_weights(
    module: LightningModule,
    groups: Mapping[str, Sequence[nn.Parameter]],
    training: Training,
    batch: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Take one step of the module's optimizer.

    Args:
        module: The stage being trained.
        groups: Groups of parameters. The key of a group is the name under which its gradient norm is logged. Each group
            is clipped separately, and groups without gradients are skipped.
        training: Settings of the learning-rate schedule and of gradient clipping.
        batch: The current batch, which is saved if a gradient is not finite.

    Returns:
        The values to log: each group's gradient norm before clipping, and the learning-rate factor.

    Raises:
        RunError: A gradient is not finite. The weights are unchanged.
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

"""Sets the sampling times of diffusers' schedulers to those of this project's samplers."""

from typing import Any

import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from torch import Tensor

from pocketdit.diffusion.samplers import uniform_times


def scheduler_for(sampler: str, shift: float) -> Any:
    """Return the scheduler that takes the same steps as a sampler of this project.

    Args:
        sampler: Name of the sampler.
        shift: Shift of the times toward noise.

    Raises:
        ValueError: diffusers has no such scheduler.
    """
    match sampler:
        case "euler":
            return FlowMatchEulerDiscreteScheduler(shift=shift)
        case "heun":
            return FlowMatchHeunDiscreteScheduler(shift=shift)
        case "dpmpp_2m":
            return DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, lower_order_final=False
            )
        case _:
            raise ValueError(f"diffusers has no scheduler for the sampler {sampler}")


def set_times(scheduler: Any, steps: int, device: torch.device) -> Tensor:
    """Set a scheduler's times to ``uniform_times`` with the shift in its configuration.

    This replaces the default times of the schedulers that ``scheduler_for`` returns: by default, the Euler scheduler
    applies the shift twice, and DPM-Solver++ starts just below time 1 and truncates its time steps to integers. Other
    schedulers keep their default times.

    Args:
        scheduler: A scheduler for flow matching.
        steps: Number of sampling steps.
        device: Device of the time steps.

    Returns:
        The scheduler's time steps, in the order in which the network is called.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist(), device=device)
        shifted: Tensor = scheduler.timesteps
        return shifted
    scheduler.set_timesteps(steps, device=device)
    if isinstance(scheduler, DPMSolverMultistepScheduler) and scheduler.config.use_flow_sigmas:
        times = torch.tensor(uniform_times(steps, scheduler.config.flow_shift))
        scheduler.sigmas = times
        scheduler.timesteps = times[:-1].to(device) * scheduler.config.num_train_timesteps
    elif isinstance(scheduler, FlowMatchHeunDiscreteScheduler):
        times = torch.tensor(uniform_times(steps, scheduler.config.shift), device=device)
        inner = times[1:-1].repeat_interleave(2)  # each step but the last ends with a second evaluation
        scheduler.sigmas = torch.cat([times[:1], inner, times[-1:]])
        scheduler.timesteps = scheduler.sigmas[:-1] * scheduler.config.num_train_timesteps
    timesteps: Tensor = scheduler.timesteps
    return timesteps

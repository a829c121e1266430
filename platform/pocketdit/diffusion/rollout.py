"""Rollouts of a few-step model, along its own trajectory from noise to the step being trained (paper Sec. 3.3).

Training on this trajectory, rather than on noised data, shows the student the inputs it gets at inference. DMD2 (Yin et
al. 2024) calls this backward simulation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pocketdit.diffusion.samplers import Velocity, batch_time, step_intervals


@torch.no_grad()
def euler_rollout(velocity: Velocity, noise: Tensor, times: Sequence[float], steps: int) -> tuple[Tensor, Tensor]:
    """Take the first ``steps`` Euler steps from noise, without gradients.

    Args:
        velocity: Velocity of the model.
        noise: Noise (B, ...).
        times: Decreasing times from 1 to 0, as samplers expect them.
        steps: Number of steps, from 0 (returns the noise) to len(times) - 2 (stops before the last step).

    Returns:
        x_t (B, ...) and its time t = times[steps] (B,), from which the caller can take a step with gradients.

    Raises:
        ValueError: ``steps`` is out of range, or ``times`` do not decrease to 0.
    """
    intervals = list(step_intervals(times))
    if not 0 <= steps < len(intervals):
        raise ValueError(
            f"steps must be between 0 and {len(intervals) - 1} for {len(intervals)} intervals, got {steps}"
        )
    x = noise
    for start, end in intervals[:steps]:
        x = x + (end - start) * velocity(x, batch_time(start, x))
    return x, batch_time(times[steps], x)

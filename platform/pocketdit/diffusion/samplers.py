"""Samplers: functions that take a velocity, noise, and a list of decreasing times and return data.

A velocity is called with x (B, C, h, w) and t (B,). Times decrease from 1 (noise) to 0 (data).

To add a sampler, write a function of type ``Sampler`` here and add its name to ``SamplerName`` in
``sampler_names.py``. ``SAMPLERS`` looks up the function by name.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor

from pocketdit.diffusion.path import data_from_velocity, shift_time
from pocketdit.diffusion.sampler_names import SamplerName

Velocity = Callable[[Tensor, Tensor], Tensor]
Sampler = Callable[[Velocity, Tensor, Sequence[float]], Tensor]


def uniform_times(steps: int, shift: float = 1.0) -> list[float]:
    """Return ``steps`` + 1 times from 1 to 0 that are evenly spaced before the time shift.

    Four steps with a shift of 3 result in the times of the Qwen-Image-Lightning teacher: 1, 0.9, 0.75, 0.5, and 0.
    """
    return shift_time(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).tolist()


def step_intervals(times: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Return the start and end time of every step.

    Raises:
        ValueError: The times do not strictly decrease, or do not end at 0.
    """
    if len(times) < 2 or times[-1] != 0 or any(a <= b for a, b in pairwise(times)):
        raise ValueError(f"times must decrease and end at 0, got {list(times)}")
    return pairwise(times)


def batch_time(time: float, like: Tensor) -> Tensor:
    """Return a tensor (B,) that repeats a time for every sample of the batch ``like`` (B, ...), on its device."""
    return torch.full((like.shape[0],), time, device=like.device, dtype=torch.float32)


def euler(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """First-order sampler with one velocity evaluation per step. It is exact for a constant velocity."""
    for start, end in step_intervals(times):
        x = x + (end - start) * velocity(x, batch_time(start, x))
    return x


def heun(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Second-order sampler (trapezoidal rule). Every step except the last requires two velocity evaluations."""
    for start, end in step_intervals(times):
        slope = velocity(x, batch_time(start, x))
        x_end = x + (end - start) * slope
        if end > 0:
            slope = (slope + velocity(x_end, batch_time(end, x))) / 2
            x_end = x + (end - start) * slope
        x = x_end
    return x


def dpmpp_2m(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """DPM-Solver++ (2M), a second-order multistep sampler (Lu et al. 2022, Algorithm 2).

    It needs one velocity evaluation per step. With signal level 1 - t and noise level t, lambda = log((1 - t) / t). The
    data prediction is linearly extrapolated in lambda from the previous step. The first and last steps, where lambda is
    infinite, are first order.
    """
    previous_data: Tensor | None = None
    previous_h = 0.0
    for start, end in step_intervals(times):
        data = data_from_velocity(x, batch_time(start, x), velocity(x, batch_time(start, x)))
        estimate = data
        h = 0.0
        if start < 1 and end > 0:
            h = log_snr(end) - log_snr(start)
            if previous_data is not None and previous_h:
                ratio = h / previous_h
                estimate = data + ratio / 2 * (data - previous_data)
        # First-order step: the point at time ``end`` on the straight line from x to the estimate of the data.
        x = end / start * x + (1 - end / start) * estimate
        previous_data, previous_h = data, h
    return x


def log_snr(time: float) -> float:
    """Compute lambda(t) = log((1 - t) / t), half of the log signal-to-noise ratio."""
    t = torch.tensor(time, dtype=torch.float64)
    return float(torch.log1p(-t) - torch.log(t))


SAMPLERS: dict[str, Sampler] = {name: globals()[name] for name in get_args(SamplerName)}

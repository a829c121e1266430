"""Samplers as functions: a velocity, a start and a list of falling times in, data out.

``velocity(x, t)`` takes x (B, C, h, w) and t (B,). ``times`` begins at 1 (noise) and ends at 0 (data).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor

from pocketdit.diffusion.path import data_from_velocity, shift
from pocketdit.diffusion.sampler_names import SamplerName

Velocity = Callable[[Tensor, Tensor], Tensor]
Sampler = Callable[[Velocity, Tensor, Sequence[float]], Tensor]


def uniform_times(steps: int, amount: float = 1.0) -> list[float]:
    """``steps`` + 1 times from 1 to 0, equidistant before the shift.

    Four steps with shift 3 are 1, 0.9, 0.75, 0.5, 0: the list of the Qwen-Image-Lightning teacher.
    """
    return shift(torch.linspace(1, 0, steps + 1, dtype=torch.float64), amount).tolist()


def intervals(times: Sequence[float]) -> Iterator[tuple[float, float]]:
    if len(times) < 2 or times[-1] != 0 or any(a <= b for a, b in pairwise(times)):
        raise ValueError(f"times must fall and end at 0, got {list(times)}")
    return pairwise(times)


def at(time: float, like: Tensor) -> Tensor:
    return torch.full((like.shape[0],), time, device=like.device, dtype=torch.float32)


def euler(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """First order: one velocity a step. Exact where the velocity is constant."""
    for now, then in intervals(times):
        x = x + (then - now) * velocity(x, at(now, x))
    return x


def heun(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Second order (trapezoid): two velocities a step, one in the last."""
    for now, then in intervals(times):
        slope = velocity(x, at(now, x))
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + velocity(ahead, at(then, x))) / 2
            ahead = x + (then - now) * slope
        x = ahead
    return x


def dpmpp_2m(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Second order from the step before: DPM-Solver++ (2M), one velocity a step.

    With signal 1 - t and noise t, lambda = log((1 - t) / t); the data prediction is extrapolated linearly in
    lambda (Lu et al. 2022, Algorithm 2). The first and the last step, whose lambda is infinite, are first order.
    """
    earlier: Tensor | None = None
    earlier_width = 0.0
    for now, then in intervals(times):
        data = data_from_velocity(x, at(now, x), velocity(x, at(now, x)))
        estimate = data
        width = 0.0
        if now < 1 and then > 0:
            width = log_snr(then) - log_snr(now)
            if earlier is not None and earlier_width:
                ratio = width / earlier_width
                estimate = data + ratio / 2 * (data - earlier)
        # The line through x at ``now`` that ends in ``estimate``: the first-order step in data prediction.
        x = then / now * x + (1 - then / now) * estimate
        earlier, earlier_width = data, width
    return x


def log_snr(time: float) -> float:
    """lambda(t) = log((1 - t) / t)."""
    t = torch.tensor(time, dtype=torch.float64)
    return float(torch.log1p(-t) - torch.log(t))


SAMPLERS: dict[str, Sampler] = {name: globals()[name] for name in get_args(SamplerName)}

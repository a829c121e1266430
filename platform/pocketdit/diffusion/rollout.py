"""The student's own way from noise, up to a step that is then trained (K-DMD, paper Sec. 3.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pocketdit.diffusion.samplers import Velocity, at, intervals


@torch.no_grad()
def roll_out(velocity: Velocity, noise: Tensor, times: Sequence[float], steps: int) -> tuple[Tensor, Tensor]:
    """The first ``steps`` Euler steps of ``times`` from ``noise``, without gradient.

    ``noise``: (B, ...); ``times``: falling, from 1 to 0 as samplers take them. Returns x_t (B, ...) and its
    t = times[steps] (B,), for a step with gradient from there. ``steps`` 0 gives the noise back; the last to ask for
    is len(times) - 2, from which one step is left. ValueError outside, or if ``times`` do not fall to 0.
    """
    spans = list(intervals(times))
    if not 0 <= steps < len(spans):
        raise ValueError(f"steps must be within 0 and {len(spans) - 1} for {len(spans)} intervals, got {steps}")
    x = noise
    for now, then in spans[:steps]:
        x = x + (then - now) * velocity(x, at(now, x))
    return x, at(times[steps], x)

"""Rectified flow: x_t = (1 - t) x_0 + t noise, with velocity v = noise - x_0 (Eq. 4 of the paper).

At t = 0, x_t is data. Latents are (B, C, h, w) and times are (B,).
"""

import torch
from torch import Tensor


def broadcast_time(time: Tensor, like: Tensor) -> Tensor:
    """Reshape times (B,) to (B, 1, ..., 1) with as many dimensions as ``like`` has."""
    return time.reshape(-1, *[1] * (like.ndim - 1))


def interpolate(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Compute x_t, the point at time t on the straight line from data to noise."""
    t = broadcast_time(time, data)
    return (1 - t) * data + t * noise


def velocity(data: Tensor, noise: Tensor) -> Tensor:
    """Compute the velocity of the line from data to noise, which is constant in time."""
    return noise - data


def data_from_velocity(x_t: Tensor, time: Tensor, v: Tensor) -> Tensor:
    """Compute x_0 = x_t - t v (Eq. 9, where sigma_t = t)."""
    return x_t - broadcast_time(time, x_t) * v


def shift_time(time: Tensor, shift: float) -> Tensor:
    """Shift times toward noise if ``shift`` > 1: t' = s t / (1 + (s - 1) t). The endpoints 0 and 1 stay fixed."""
    return shift * time / (1 + (shift - 1) * time)


def draw_times(count: int, shift: float, spread: float, generator: torch.Generator) -> Tensor:
    """Draw shifted logit-normal training times (SD3): t = sigmoid(u) with u ~ N(0, ``spread``^2), then ``shift_time``.

    The draw is stratified (as in Kingma et al. 2021, "VDM", app. I.1): one time is drawn from each of ``count`` equally
    likely intervals, in order. Together, the times follow the distribution, and the batch loss has a lower variance.

    Args:
        count: Number of times.
        shift: Time shift s.
        spread: Standard deviation of u.
        generator: Random generator. The times are drawn on its device.

    Returns:
        Times (count,).
    """
    device = generator.device
    quantiles = (torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)) / count
    u = spread * torch.special.ndtri(quantiles.clamp(1e-6, 1 - 1e-6))
    return shift_time(torch.sigmoid(u), shift)

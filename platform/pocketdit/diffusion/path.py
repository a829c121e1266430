"""Rectified flow: x_t = (1 - t) x_0 + t noise, velocity v = noise - x_0 (paper Eq. 4). t = 0 is data.

Latents are (B, C, h, w), times (B,).
"""

import torch
from torch import Tensor


def broadcast(time: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return time.reshape(-1, *[1] * (like.ndim - 1))


def interpolate(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_t on the straight line from data to noise."""
    t = broadcast(time, data)
    return (1 - t) * data + t * noise


def velocity(data: Tensor, noise: Tensor) -> Tensor:
    """The line's direction, the same at every time."""
    return noise - data


def data_from_velocity(x_t: Tensor, time: Tensor, v: Tensor) -> Tensor:
    """x_0 = x_t - t v (Eq. 9, where sigma_t = t)."""
    return x_t - broadcast(time, x_t) * v


def shift(time: Tensor, amount: float) -> Tensor:
    """Move times towards noise (amount > 1): t' = s t / (1 + (s - 1) t). Keeps 0 and 1."""
    return amount * time / (1 + (amount - 1) * time)


def sample_times(count: int, amount: float, spread: float, generator: torch.Generator) -> Tensor:
    """Logit-normal times (SD3), t = sigmoid(u) with u ~ N(0, spread^2), shifted. On the generator's device, (count,).

    Stratified: one time from each of ``count`` equally likely intervals (as in Kingma et al. 2021, "VDM", app. I.1), in
    order. Each time by itself has the distribution; a batch's loss varies less.
    """
    device = generator.device
    share = (torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)) / count
    u = spread * torch.special.ndtri(share.clamp(1e-6, 1 - 1e-6))
    return shift(torch.sigmoid(u), amount)

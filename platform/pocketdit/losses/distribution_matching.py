"""Distribution matching distillation (paper Eq. 9; Yin et al. 2024, "DMD"): two data estimates give a gradient."""

import torch
from torch import Tensor

from pocketdit.diffusion.path import data_from_velocity, interpolate
from pocketdit.diffusion.samplers import Velocity


def matching_gradient(x: Tensor, real: Tensor, fake: Tensor, floor: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Eq. 9's bracket, normalised as in DMD: (p_real - p_fake) / mean |p_real|, with p = x - data estimate.

    ``x``: the student's data x_0; ``real``, ``fake``: what the teacher and the critic take for the data behind the
    noised x; all (B, ...). The mean is over everything but the batch and at least ``floor``.
    Returns the gradient (B, ...), with 0 where it is not finite, and mean |p_real| (B,), in float32.
    """
    p_real, p_fake = x.float() - real.float(), x.float() - fake.float()
    size = p_real.flatten(1).abs().mean(1)
    # Sign trap: this is fake - real for data estimates, and descending moves x from the critic's towards the
    # teacher's. As x_0 = x_t - t v, it is -t (v_fake - v_real) for velocities: Eq. 9's f_c - f_xi read as velocities
    # drives x the wrong way.
    gradient = (p_real - p_fake) / size.clamp_min(floor).reshape(-1, *[1] * (x.ndim - 1))
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), size


def matching_loss(x: Tensor, gradient: Tensor) -> Tensor:
    """A loss whose gradient with respect to ``x`` is ``gradient`` / numel: 0.5 mean (x - stop(x - gradient))^2.

    Its value, half the gradient's mean square, says nothing about how well the distributions match. Scalar.
    """
    target = (x.float() - gradient.float()).detach()
    return 0.5 * (x.float() - target).square().mean()


def distribution_matching_loss(
    x0: Tensor, noise: Tensor, time: Tensor, real: Velocity, fake: Velocity
) -> tuple[Tensor, Tensor]:
    """Eq. 9: noise the student's data, compare the teacher's and the critic's estimates of it, and pull.

    ``x0``: from the student, with gradient, (B, ...); ``noise``: (B, ...); ``time``: tau (B,); ``real``, ``fake``: the
    teacher's and the critic's velocity. Neither gets a gradient, nor does the way through x_t.
    Returns the loss and the batch's mean |p_real|, a figure to watch (not finite if a sample's is not). Scalars.
    """
    with torch.no_grad():
        x_t = interpolate(x0, noise, time)
        of_teacher, of_critic = (data_from_velocity(x_t, time, velocity(x_t, time)) for velocity in (real, fake))
        gradient, size = matching_gradient(x0, of_teacher, of_critic)
    return matching_loss(x0, gradient), size.mean()

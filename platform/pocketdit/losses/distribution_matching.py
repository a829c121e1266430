"""Distribution matching distillation (paper Eq. 9; Yin et al. 2024, "DMD"): the gradient from two data estimates."""

import torch
from torch import Tensor

from pocketdit.diffusion.path import data_from_velocity, interpolate
from pocketdit.diffusion.samplers import Velocity


def matching_gradient(x: Tensor, real: Tensor, fake: Tensor, floor: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Compute the bracket of Eq. 9, normalized as in DMD: (p_real - p_fake) / mean |p_real|.

    Here, p = x - (data estimate). The mean is over all dimensions but the batch.

    Args:
        x: The student's data x_0, (B, ...).
        real: The teacher's estimate of the data behind the noised x, (B, ...).
        fake: The critic's estimate of the same, (B, ...).
        floor: Lower bound of the mean.

    Returns:
        The gradient (B, ...), 0 where it is not finite, and mean |p_real| (B,). Both in float32.
    """
    p_real, p_fake = x.float() - real.float(), x.float() - fake.float()
    size = p_real.flatten(1).abs().mean(1)
    # Beware of the sign. In data estimates, this is fake - real, so descent moves x from the critic's estimate toward
    # the teacher's. Because x_0 = x_t - t v, it is -t (v_fake - v_real) in velocities. Reading f_c - f_xi of Eq. 9 as
    # velocities would move x the wrong way.
    gradient = (p_real - p_fake) / size.clamp_min(floor).reshape(-1, *[1] * (x.ndim - 1))
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), size


def matching_loss(x: Tensor, gradient: Tensor) -> Tensor:
    """Compute a loss whose gradient with respect to x is ``gradient`` / numel: 0.5 mean (x - stop(x - gradient))^2.

    Its value is half the mean square of the gradient and does not show how well the distributions match. Scalar.
    """
    target = (x.float() - gradient.float()).detach()
    return 0.5 * (x.float() - target).square().mean()


def distribution_matching_loss(
    x0: Tensor, noise: Tensor, time: Tensor, real: Velocity, fake: Velocity
) -> tuple[Tensor, Tensor]:
    """Compute the loss of Eq. 9: noise the student's data, and compare the teacher's and the critic's estimates of it.

    The teacher, the critic and the path through x_t get no gradient.

    Args:
        x0: The student's data with gradient, (B, ...).
        noise: Noise (B, ...).
        time: Noise level tau (B,).
        real: The teacher's velocity.
        fake: The critic's velocity.

    Returns:
        The loss, and the batch mean of mean |p_real| for logging, which is not finite if that of a sample is not.
        Scalars.
    """
    with torch.no_grad():
        x_t = interpolate(x0, noise, time)
        real_data, fake_data = (data_from_velocity(x_t, time, velocity(x_t, time)) for velocity in (real, fake))
        gradient, size = matching_gradient(x0, real_data, fake_data)
    return matching_loss(x0, gradient), size.mean()

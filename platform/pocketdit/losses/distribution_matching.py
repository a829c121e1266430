"""Distribution matching distillation (Eq. 9 of the paper, after Yin et al. 2024, "DMD")."""

import torch
from torch import Tensor

from pocketdit.diffusion.path import data_from_velocity, interpolate
from pocketdit.diffusion.samplers import Velocity


def matching_gradient(x: Tensor, real: Tensor, fake: Tensor, floor: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Compute the bracketed term of Eq. 9, normalized as in DMD: (p_real - p_fake) / mean |p_real|.

    Here, p is x minus the data estimate. The mean is over all dimensions except the batch.

    Args:
        x: The student's data x_0, (B, ...).
        real: The teacher's estimate of the data, predicted from the noised x, (B, ...).
        fake: The critic's estimate of the data, predicted from the same noised x, (B, ...).
        floor: Lower bound on mean |p_real|.

    Returns:
        The gradient (B, ...), with non-finite values replaced by 0, and mean |p_real| (B,). Both are float32.
    """
    p_real, p_fake = x.float() - real.float(), x.float() - fake.float()
    size = p_real.flatten(1).abs().mean(1)
    # Mind the sign. In terms of data estimates, the gradient is fake - real, so gradient descent moves x from the
    # critic's estimate toward the teacher's estimate. In terms of velocities, the gradient is -t (v_fake - v_real),
    # because x_0 = x_t - t v. If f_c - f_xi in Eq. 9 were a difference of velocities, x would move in the wrong
    # direction.
    gradient = (p_real - p_fake) / size.clamp_min(floor).reshape(-1, *[1] * (x.ndim - 1))
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), size


def matching_loss(x: Tensor, gradient: Tensor) -> Tensor:
    """Compute a scalar loss whose gradient with respect to x is ``gradient`` / numel.

    The loss is 0.5 mean (x - stop(x - gradient))^2. Its value is half the mean square of the gradient, which does not
    show how well the distributions match.
    """
    target = (x.float() - gradient.float()).detach()
    return 0.5 * (x.float() - target).square().mean()


def distribution_matching_loss(
    x0: Tensor, noise: Tensor, time: Tensor, real: Velocity, fake: Velocity
) -> tuple[Tensor, Tensor]:
    """Add noise to the student's data and compute the loss of Eq. 9 from the teacher's and the critic's estimates.

    No gradient flows through the teacher, the critic, or x_t.

    Args:
        x0: The student's data (B, ...), through which the gradient flows.
        noise: Noise (B, ...).
        time: Noise level tau (B,).
        real: The teacher's velocity.
        fake: The critic's velocity.

    Returns:
        The scalar loss and, for logging, the batch mean of mean |p_real|. This mean is not finite if the value of any
        sample is not finite.
    """
    with torch.no_grad():
        x_t = interpolate(x0, noise, time)
        real_data, fake_data = (data_from_velocity(x_t, time, velocity(x_t, time)) for velocity in (real, fake))
        gradient, size = matching_gradient(x0, real_data, fake_data)
    return matching_loss(x0, gradient), size.mean()

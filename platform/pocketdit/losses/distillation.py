"""Knowledge distillation losses (Eqs. 6 to 8 of the paper) and their timestep-aware scaling."""

import math
from typing import Literal

import torch
from torch import Tensor

from pocketdit.losses.flow_matching import per_sample_loss


def output_loss(prediction: Tensor, teacher: Tensor) -> Tensor:
    """Compute Eq. 6 per sample: the mean squared error against the teacher's velocity, which receives no gradient.

    Args:
        prediction: The student's velocity (B, ...).
        teacher: The teacher's velocity (B, ...).

    Returns:
        Loss (B,), in float32.
    """
    return per_sample_loss(prediction, teacher.detach())


def feature_loss(projected: Tensor, teacher: Tensor) -> Tensor:
    """Compute Eq. 7 per sample: the mean squared error against the teacher's features, which receive no gradient.

    Args:
        projected: The student's features after the projector, (B, N, F) for N tokens and F features.
        teacher: The teacher's features (B, N, F).

    Returns:
        Loss (B,), in float32.
    """
    return per_sample_loss(projected, teacher.detach())


def task_weight(time: Tensor, mean: float, spread: float, reading: Literal["density", "cdf"]) -> Tensor:
    """Compute alpha_t of the operator S in Eq. 8, the weight of the task loss at each time.

    The teacher's loss has the weight 1 - alpha_t. The paper does not define S, so this function implements two
    interpretations. "density" follows secondary sources that describe SnapGen, and "cdf" is an alternative.

    - "density" is the logit-normal density of t, where logit t ~ N(mean, spread^2), divided by its maximum. The task
      loss has the highest weight where training times are densest: at t = 0.5 for a mean of 0 and a spread of 1, and at
      t = 0.96 for a mean of log 3 and a spread of 1.5. At t = 0 and t = 1, the weight is 0.
    - "cdf" is the distribution function Phi((logit t - mean) / spread), which increases from 0 at t = 0 (data) to 1 at
      t = 1 (noise).

    With a time shift of s (see ``path.draw_times``), the training times are logit-normal with mean log s.

    Args:
        time: Times (B,) in [0, 1].
        mean: Mean of logit t.
        spread: Standard deviation of logit t.
        reading: The interpretation of S.

    Returns:
        Weights (B,) in [0, 1].

    Raises:
        ValueError: ``spread`` is not positive.
    """
    if not spread > 0:
        raise ValueError(f"spread must be positive, got {spread}")
    log_signal, log_noise = torch.log1p(-time.float()), torch.log(time.float())  # log (1 - t) and log t
    logit = log_noise - log_signal
    if reading == "cdf":
        weight: Tensor = torch.special.ndtr((logit - mean) / spread)
        return weight
    mode = density_mode(mean, spread)
    log_maximum = -(((mode - mean) / spread) ** 2) / 2 + abs(mode) + 2 * math.log1p(math.exp(-abs(mode)))
    log_weight = -((logit - mean) / spread).square() / 2 - log_noise - log_signal - log_maximum
    # At both ends, the density goes to 0 because the Gaussian decays faster than 1 / (t (1 - t)) grows. The expression
    # above would evaluate to NaN (inf - inf).
    return torch.where((time > 0) & (time < 1), log_weight.exp(), 0.0)


def density_mode(mean: float, spread: float) -> float:
    """Find the logit u at which the logit-normal density of t has its maximum.

    Up to a constant, the log density is -(u - mean)^2 / (2 spread^2) - log(t (1 - t)). Its derivative with respect to u
    is tanh(u / 2) - (u - mean) / spread^2. The maximum is on the same side of 0 as the mean. For a positive mean, tanh
    is concave on that side, so the derivative changes sign once, from plus to minus, and bisection finds the root. If
    spread^2 > 2, there can be a second, lower peak on the other side. For a mean of 0, the two peaks are equal.
    """
    low, high = 0.0, abs(mean) + spread**2
    for _ in range(100):
        middle = (low + high) / 2
        rising = math.tanh(middle / 2) > (middle - abs(mean)) / spread**2
        low, high = (middle, high) if rising else (low, middle)
    return math.copysign((low + high) / 2, mean)


def timestep_scaling(task: Tensor, teacher: Tensor, alpha: Tensor, teacher_weight: float = 1.0) -> Tensor:
    """Compute S of Eq. 8: the batch mean of alpha * task + teacher_weight * (1 - alpha) * ratio * teacher.

    The ratio |mean task| / |mean teacher| over this batch scales the teacher's loss to the size of the task loss. No
    gradient flows through the ratio. A teacher's loss of 0 remains 0.

    Args:
        task: Each sample's loss against data, (B,).
        teacher: Each sample's loss against the teacher, (B,).
        alpha: alpha_t of each sample's time from ``task_weight``, (B,).
        teacher_weight: Additional weight of the teacher's loss.

    Returns:
        Scalar loss.
    """
    ratio = task.detach().mean().abs() / teacher.detach().mean().abs().clamp_min(1e-12)
    return (alpha * task + teacher_weight * (1 - alpha) * ratio * teacher).mean()

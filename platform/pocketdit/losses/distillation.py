"""Knowledge distillation from a large teacher (paper Eq. 6 to 8), with timestep-aware scaling of its losses."""

import math
from typing import Literal

import torch
from torch import Tensor

from pocketdit.losses.flow_matching import per_sample_loss


def output_loss(prediction: Tensor, teacher: Tensor) -> Tensor:
    """Compute Eq. 6 per sample: the mean squared error against the teacher's velocity, which gets no gradient.

    Args:
        prediction: The student's velocity (B, ...).
        teacher: The teacher's velocity (B, ...).

    Returns:
        Loss (B,), in float32.
    """
    return per_sample_loss(prediction, teacher.detach())


def feature_loss(projected: Tensor, teacher: Tensor) -> Tensor:
    """Compute Eq. 7 per sample: the mean squared error against the teacher's features, which get no gradient.

    Args:
        projected: The student's features after the projector, (B, N, F) for N tokens and F features.
        teacher: The teacher's features (B, N, F).

    Returns:
        Loss (B,), in float32.
    """
    return per_sample_loss(projected, teacher.detach())


def task_weight(time: Tensor, mean: float, spread: float, reading: Literal["density", "cdf"]) -> Tensor:
    """Compute alpha_t of the operator S in Eq. 8: the weight of the loss against data at each time.

    The teacher's loss has the weight 1 - alpha_t. The paper does not define S. The reading "density" follows SnapGen
    as described by secondary sources, "cdf" follows a different description.

    - "density" is the density over t of the logit-normal distribution logit t ~ N(mean, spread^2), divided by its
      maximum. The data's weight is highest where training times are densest (at t = 0.5 for mean 0 and spread 1, at
      0.96 for log 3 and 1.5). At t = 0 and t = 1, only the teacher counts.
    - "cdf" is the distribution function Phi((logit t - mean) / spread), from 0 at data to 1 at noise.

    Training times that are shifted by s (``path.draw_times``) are logit-normal with mean log s.

    Args:
        time: Times (B,) in [0, 1].
        mean: Mean of logit t.
        spread: Standard deviation of logit t.
        reading: Which of the two definitions to use.

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
        return torch.special.ndtr((logit - mean) / spread)
    mode = density_mode(mean, spread)
    log_maximum = -(((mode - mean) / spread) ** 2) / 2 + abs(mode) + 2 * math.log1p(math.exp(-abs(mode)))
    log_weight = -((logit - mean) / spread).square() / 2 - log_noise - log_signal - log_maximum
    # At the ends, the Gaussian in the logit outweighs 1 / (t (1 - t)), but floating point arithmetic gives inf - inf.
    return torch.where((time > 0) & (time < 1), log_weight.exp(), 0.0)


def density_mode(mean: float, spread: float) -> float:
    """Find the logit u of the time at which the logit-normal density over t has its maximum.

    The log density is -(u - mean)^2 / (2 spread^2) - log t (1 - t), up to a constant. Its derivative in u is
    tanh(u / 2) - (u - mean) / spread^2. The maximum is on the same side of 0 as the mean. On that side, tanh is concave
    for a positive mean, so the derivative changes its sign once, from plus to minus, and bisection finds the root. If
    spread^2 > 2, the other side can have a second, lower peak. For mean 0, the two peaks are equal.
    """
    low, high = 0.0, abs(mean) + spread**2
    for _ in range(100):
        middle = (low + high) / 2
        rising = math.tanh(middle / 2) > (middle - abs(mean)) / spread**2
        low, high = (middle, high) if rising else (low, middle)
    return math.copysign((low + high) / 2, mean)


def timestep_scaling(task: Tensor, teacher: Tensor, alpha: Tensor, teacher_weight: float = 1.0) -> Tensor:
    """Compute S of Eq. 8: the batch mean of alpha task + teacher_weight (1 - alpha) ratio teacher.

    The ratio |mean task| / |mean teacher| over this batch scales the teacher's loss to the size of the task loss. It
    gets no gradient. A teacher's loss of 0 stays 0.

    Args:
        task: Each sample's loss against data, (B,).
        teacher: Each sample's loss against the teacher, (B,).
        alpha: alpha_t of each sample's time from ``task_weight``, (B,).
        teacher_weight: Additional weight of the teacher's loss.

    Returns:
        The loss. Scalar.
    """
    ratio = task.detach().mean().abs() / teacher.detach().mean().abs().clamp_min(1e-12)
    return (alpha * task + teacher_weight * (1 - alpha) * ratio * teacher).mean()

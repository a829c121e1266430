"""Knowledge distillation from a large teacher (paper Eq. 6 to 8), and how its losses are weighed by time."""

import math
from typing import Literal

import torch
from torch import Tensor

from pocketdit.losses.flow_matching import per_sample_loss


def output_loss(prediction: Tensor, teacher: Tensor) -> Tensor:
    """Eq. 6 of every sample: mean squared error against the teacher's velocity, which gets no gradient.

    (B, ...), (B, ...) -> (B,), in float32.
    """
    return per_sample_loss(prediction, teacher.detach())


def feature_loss(projected: Tensor, teacher: Tensor) -> Tensor:
    """Eq. 7 of every sample: mean squared error against the teacher's features, which get no gradient.

    ``projected``: the student's features behind the projector, (B, N, F); ``teacher``: (B, N, F), N tokens of F
    features. Returns (B,), in float32.
    """
    return per_sample_loss(projected, teacher.detach())


def task_share(time: Tensor, mean: float, spread: float, reading: Literal["density", "cdf"]) -> Tensor:
    """alpha_t of Eq. 8's S: the data's share of the loss at each time, 1 - alpha_t being the teacher's. (B,) -> (B,).

    The paper does not spell S out; "density" follows SnapGen as secondary sources have it, "cdf" another text.

    "density": the density of logit t ~ N(mean, spread^2) over t, divided by its maximum. Data counts most where
    training times are densest (t = 0.5 at mean 0 and spread 1, 0.96 at log 3 and 1.5), the teacher alone at 0 and 1.
    "cdf": its distribution function Phi((logit t - mean) / spread), from 0 at data to 1 at noise.

    Training times sigmoid(spread N(0, 1)) shifted by s (``path.sample_times``) are logit-normal with mean log s.
    Raises ValueError where ``spread`` is not positive.
    """
    if not spread > 0:
        raise ValueError(f"spread must be positive, got {spread}")
    of_data, of_noise = torch.log1p(-time.float()), torch.log(time.float())  # log (1 - t) and log t
    logit = of_noise - of_data
    if reading == "cdf":
        return torch.special.ndtr((logit - mean) / spread)
    highest = density_mode(mean, spread)
    at_highest = -(((highest - mean) / spread) ** 2) / 2 + abs(highest) + 2 * math.log1p(math.exp(-abs(highest)))
    log_share = -((logit - mean) / spread).square() / 2 - of_noise - of_data - at_highest
    # At the ends the Gaussian in the logit outweighs 1 / (t (1 - t)), but arithmetic has inf - inf.
    return torch.where((time > 0) & (time < 1), log_share.exp(), 0.0)


def density_mode(mean: float, spread: float) -> float:
    """The logit u of the time at which the logit-normal density over t is highest.

    log density = -(u - mean)^2 / (2 spread^2) - log t (1 - t), whose derivative in u is
    tanh(u / 2) - (u - mean) / spread^2. The highest point lies on the mean's side of 0. There the derivative changes
    its sign once, from plus to minus, as tanh is concave: bisection. On the other side there can be a second, lower
    peak if spread^2 > 2; at mean 0 the two are equal.
    """
    low, high = 0.0, abs(mean) + spread**2
    for _ in range(100):
        middle = (low + high) / 2
        rising = math.tanh(middle / 2) > (middle - abs(mean)) / spread**2
        low, high = (middle, high) if rising else (low, middle)
    return math.copysign((low + high) / 2, mean)


def timestep_scaling(task: Tensor, teaching: Tensor, share: Tensor, weight: float = 1.0) -> Tensor:
    """S of Eq. 8: the mean over samples of share task + weight (1 - share) ratio teaching.

    ``task``: each sample's loss against data; ``teaching``: against the teacher; ``share``: alpha_t of each sample's
    time (``task_share``); all (B,). The ratio |mean task| / |mean teaching| over this batch brings the teacher's loss
    to the size of the data's; it gets no gradient, and a teaching of 0 stays 0. Scalar.
    """
    ratio = task.detach().mean().abs() / teaching.detach().mean().abs().clamp_min(1e-12)
    return (share * task + weight * (1 - share) * ratio * teaching).mean()

"""Learning-rate schedules as functions of the step. They are stateless, so a resumed run has nothing to restore."""

import math
from typing import Literal

Decay = Literal["constant", "linear", "cosine"]


def rate_factor(step: int, warmup_steps: int, max_steps: int, decay: Decay, floor: float = 0.0) -> float:
    """Return the factor by which the learning rate is multiplied at update number ``step``, counting from 0.

    The factor rises linearly to 1 over ``warmup_steps``. With "constant" decay it stays at 1. Otherwise, it falls to
    ``floor`` at ``max_steps``.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if decay == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    remaining = 1 - progress if decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return floor + (1 - floor) * remaining

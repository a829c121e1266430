"""Learning-rate schedules as functions of the step. They have no state, so a resumed run restores none."""

import math
from typing import Literal

Decay = Literal["constant", "linear", "cosine"]


def rate_factor(step: int, warmup_steps: int, max_steps: int, decay: Decay, floor: float = 0.0) -> float:
    """Return the factor on the learning rate for update number ``step``, counted from 0.

    The rate rises linearly over ``warmup_steps`` and then decays to the fraction ``floor`` at ``max_steps``.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if decay == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    remaining = 1 - progress if decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return floor + (1 - floor) * remaining

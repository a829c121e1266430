"""Learning-rate schedules as functions of the step; they hold no state, so a resumed run needs none."""

import math
from typing import Literal

Decay = Literal["constant", "linear", "cosine"]


def rate_factor(step: int, warmup_steps: int, max_steps: int, decay: Decay, floor: float = 0.0) -> float:
    """Factor on the learning rate of update number ``step`` (from 0): linear warm-up, then decay to ``floor``."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if decay == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    remaining = 1 - progress if decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return floor + (1 - floor) * remaining

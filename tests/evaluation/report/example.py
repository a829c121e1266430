"""Provides an example result with per-prompt values."""

import numpy as np

from evaluation.contract import Result, Score


def mean_score(values: dict[str, float]) -> Score:
    return Score(sum(values.values()) / len(values), 4 * len(values), values)


def example_result(shift: float = 0.0) -> Result:
    """Return a result with random values for 40 prompts, shifted by ``shift``."""
    generator = np.random.default_rng(0)
    values = {f"p{i}": float(v) + shift for i, v in enumerate(generator.random(40))}
    return Result("geneval (judge)", {"overall": mean_score(values)}, {"threshold": 0.3})

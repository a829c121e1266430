"""How sure a mean over prompts is, and whether two systems differ on the same prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.contract import Result
from pocketdit.errors import UserError

Floats = NDArray[np.float64]

_BLOCK = 1 << 22  # values drawn at a time: 32 MB
_EXACT_UP_TO = 14  # differences whose 2^n signs are all tried


@dataclass(frozen=True)
class Comparison:
    """Second minus first, on the same prompts.

    Attributes:
        difference: of the means over prompts; (``low``, ``high``): its bootstrap interval at ``level``.
        p_value: of a difference as large as this, either way, if the two systems were interchangeable.
        prompts: how many the two have in common, which is all of them.
    """

    difference: float
    low: float
    high: float
    p_value: float
    prompts: int
    level: float

    def __str__(self) -> str:
        return (
            f"{self.difference:+.4f} ({100 * self.level:g} % interval {self.low:+.4f} to {self.high:+.4f}), "
            f"p = {self.p_value:.4g}, {self.prompts} prompts"
        )


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval (Efron 1979) of the mean of prompts' values: prompts are drawn again, not pictures.

    The same values and seed give the same interval.

    Raises:
        UserError: fewer than 2 values, or one that is not finite.
        ValueError: ``level`` is not between 0 and 1, or ``resamples`` is below 1.
    """
    data = _checked(values)
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level {level} must be between 0 and 1, and resamples {resamples} at least 1")
    random = np.random.default_rng(seed)
    means = _in_blocks(
        resamples, len(data), lambda rows: data[random.integers(0, len(data), (rows, len(data)))].mean(axis=1)
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def stratified_interval(
    groups: Sequence[Sequence[float]], *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """As ``bootstrap_interval``, of the mean of the groups' means: values are drawn again within their group.

    Raises:
        UserError: a value is not finite.
    """
    random = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for group in groups:
        data = np.asarray(group, dtype=np.float64)
        if not np.isfinite(data).all():
            raise UserError("a prompt's value is not finite; look at its pictures and score it again")
        means += data[random.integers(0, len(data), (resamples, len(data)))].mean(axis=1) / len(groups)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sign_flip_p_value(differences: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of a mean of paired differences, by giving them random signs (Fisher 1935).

    Up to 14 differences all signs are tried and p is exact; beyond, what was observed counts as one of the draws, so
    that p is never 0. Raises as ``bootstrap_interval``.
    """
    data = _checked(differences)
    # A hair below what was observed: the same sum in another order of signs must count as equal.
    observed = abs(data.sum()) * (1 - 1e-12)
    if len(data) <= _EXACT_UP_TO:
        bits = np.arange(2 ** len(data))[:, None] >> np.arange(len(data)) & 1
        return float(np.mean(np.abs((1.0 - 2 * bits) @ data) >= observed))
    random = np.random.default_rng(seed)
    sums = _in_blocks(
        resamples,
        len(data),
        lambda rows: (1.0 - 2 * random.integers(0, 2, (rows, len(data)), dtype=np.int8)) @ data,
    )
    return (1 + int(np.sum(np.abs(sums) >= observed))) / (resamples + 1)


def paired_comparison(
    first: Result,
    second: Result,
    score: str = "overall",
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Second minus first of one metric's ``score``, prompt by prompt; prompts meet by id.

    It compares means over prompts, also where the score's own value is another mean of them.

    Raises:
        UserError: other metrics, no values by prompt, prompts that only one has, or fewer than 2.
    """
    if first.metric != second.metric:
        raise UserError(f"{first.metric} does not compare with {second.metric}: score both with one metric")
    values = []
    for result in (first, second):
        if score not in result.scores or not result.scores[score].by_prompt:
            raise UserError(f'{result.metric}: "{score}" has no values by prompt to compare')
        values.append(result.scores[score].by_prompt)
    ours, theirs = values
    if alone := sorted(set(ours) ^ set(theirs)):
        some = ", ".join(alone[:3])
        raise UserError(
            f"{first.metric}: {len(alone)} prompts were scored by only one of the two, such as {some}; "
            "evaluate both on the same prompts"
        )
    differences = [theirs[name] - ours[name] for name in sorted(ours)]
    low, high = bootstrap_interval(differences, level=level, resamples=resamples, seed=seed)
    p_value = sign_flip_p_value(differences, resamples=resamples, seed=seed)
    return Comparison(float(np.mean(differences)), low, high, p_value, len(differences), level)


def _checked(values: Sequence[float]) -> Floats:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < 2:
        raise UserError(f"{data.size} prompts: at least 2 are needed to say how sure a mean is")
    if not np.isfinite(data).all():
        raise UserError("a prompt's value is not finite; look at its pictures and score it again")
    return data


def _in_blocks(count: int, width: int, draw: Callable[[int], Floats]) -> Floats:
    """``count`` numbers by calls of ``draw`` for some at a time, each of which takes ``width`` values."""
    rows = max(1, _BLOCK // width)
    return np.concatenate([draw(min(rows, count - done)) for done in range(0, count, rows)])

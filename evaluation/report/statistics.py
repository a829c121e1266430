"""Confidence intervals of means over prompts, and paired comparisons of two systems on the same prompts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from evaluation.contract import Result
from pocketdit.counts import counted
from pocketdit.errors import UserError

Floats = NDArray[np.float64]

LEVEL = 0.95

_ROUNDING = 1e-12
_BLOCK = 1 << 22  # number of random values in memory at a time (32 MB)
_MAX_EXACT = 14  # maximum number n of differences for which all 2^n sign patterns are enumerated


@dataclass(frozen=True)
class Comparison:
    """The difference between two systems on the same prompts, second minus first.

    Attributes:
        difference: Difference of the means over prompts.
        low: Lower end of the bootstrap confidence interval of the difference. Equal to ``high`` if, within each group
            (see ``strata``), the difference is the same for all prompts. In that case, there is no interval.
        high: Upper end of the interval.
        p_value: Two-sided probability of a difference at least this large if the systems were interchangeable.
        prompts: Number of prompts.
        level: Confidence level of the interval.
        is_constant: Whether the difference is the same for all prompts.
    """

    difference: float
    low: float
    high: float
    p_value: float
    prompts: int
    level: float
    is_constant: bool

    def __str__(self) -> str:
        if self.is_constant and self.difference == 0:
            return f"equal on all {self.prompts} prompts"
        if self.is_constant:
            return f"{self.difference:+.4f} on each of the {self.prompts} prompts, p = {self.p_value:.4g}"
        interval = f" ({100 * self.level:g}% interval {self.low:+.4f} to {self.high:+.4f})"
        shown = interval if varies([self.low, self.high]) else ""
        return f"{self.difference:+.4f}{shown}, p = {self.p_value:.4g}, {self.prompts} prompts"


def strata(result: Result, name: str) -> list[list[str]] | None:
    """Return the prompt ids in groups, such that the score is the mean of the groups' means.

    If the overall score is the mean of categories that partition the prompts, as in GenEval, the groups are the
    categories, because the benchmark fixes the number of prompts per category. Otherwise, there is one group.

    Returns:
        The groups, or None if the score has no per-prompt values or is a different mean.
    """
    score = result.scores[name]
    parts = [part for other, part in result.scores.items() if other != name] if name == "overall" else []
    categories = [list(part.by_prompt) for part in parts]
    candidates = [[list(score.by_prompt)]]
    # Not all parts partition the prompts. For example, each noise level contains all of them.
    if parts and all(categories) and sorted(chain.from_iterable(categories)) == sorted(score.by_prompt):
        candidates.insert(0, categories)
    for groups in candidates if score.by_prompt else ():
        mean = fmean(fmean(score.by_prompt[prompt] for prompt in group) for group in groups)
        if math.isclose(mean, score.value, rel_tol=1e-9, abs_tol=1e-12):
            return groups
    return None


def varies(values: Sequence[float]) -> bool:
    """Return whether values differ by more than rounding errors.

    If they do not, resampling cannot estimate how much the values of other prompts would vary, and an interval would
    have width zero.
    """
    return bool(np.ptp(values) > _ROUNDING * max(1.0, float(np.max(np.abs(values)))))


def bootstrap_interval(
    values: Sequence[float], *, level: float = LEVEL, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval (Efron 1979) of the mean of the prompts' values.

    Prompts are resampled, not images. The same values and seed always yield the same interval.

    Raises:
        UserError: There are fewer than 2 values, or one is not finite.
        ValueError: ``level`` is not between 0 and 1, or ``resamples`` is below 1.
    """
    return stratified_interval([_checked(values)], level=level, resamples=resamples, seed=seed)


def stratified_interval(
    groups: Sequence[Sequence[float] | Floats], *, level: float = LEVEL, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of the groups' means. Values are resampled within groups.

    Raises:
        UserError: A value is not finite.
        ValueError: ``level`` is not between 0 and 1, or ``resamples`` is below 1.
    """
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}, and resamples at least 1, not {resamples}")
    samples = [_finite(np.asarray(group, dtype=np.float64)) for group in groups]
    # scipy needs two values per sample. Resampling a single value always yields that value.
    samples = [np.repeat(sample, 2) if len(sample) == 1 else sample for sample in samples]
    interval = bootstrap(
        samples,
        _mean_of_means,
        n_resamples=resamples,
        batch=max(1, _BLOCK // max(map(len, samples))),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _mean_of_means(*samples: Floats, axis: int = -1) -> Any:
    return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)


def sign_flip_p_value(differences: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of a mean of paired differences under random sign flips (Fisher 1935).

    For up to 14 differences, all signs are enumerated and p is exact. For more differences, the observed value is
    counted among the random values, so p is never 0.

    Raises:
        UserError: There are fewer than 2 differences, or one is not finite.
    """
    data = _checked(differences)
    # The observed sum is slightly reduced, so that sums that differ only in rounding are counted as equal.
    observed = abs(data.sum()) * (1 - 1e-12)
    if len(data) <= _MAX_EXACT:
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
    level: float = LEVEL,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare one score of two results of the same metric prompt by prompt. Prompts are matched by id.

    If the score is a mean of group means (see ``strata``), the difference is computed in the same way, and prompts are
    resampled within the groups. Otherwise, means over all prompts are compared.

    Raises:
        UserError: The metrics differ, there are no per-prompt values, the prompts differ, or there are fewer than 2
            prompts.
    """
    if first.metric != second.metric:
        raise UserError(f"{first.metric} cannot be compared with {second.metric}; score both with the same metric")
    values = []
    for result in (first, second):
        if score not in result.scores or not result.scores[score].by_prompt:
            raise UserError(f'{result.metric}: "{score}" has no per-prompt values to compare')
        values.append(result.scores[score].by_prompt)
    first_values, second_values = values
    if unmatched := sorted(set(first_values) ^ set(second_values)):
        raise UserError(
            f"{first.metric}: {counted(len(unmatched), 'prompt')} (such as {', '.join(unmatched[:3])}) scored in only "
            "one of the two evaluations; evaluate both on the same prompts"
        )
    groups = strata(first, score)
    if groups is None or strata(second, score) is None:
        groups = [list(first_values)]
    pairs = [[(first_values[name], second_values[name]) for name in sorted(group)] for group in groups]
    differences = [
        _finite(np.array([after - before if varies([before, after]) else 0.0 for before, after in group]))
        for group in pairs
    ]
    # Each group has the same weight, regardless of its number of prompts.
    weighted = np.concatenate([group / (len(group) * len(groups)) for group in differences])
    low, high = stratified_interval(differences, level=level, resamples=resamples, seed=seed)
    p_value = sign_flip_p_value(list(weighted), resamples=resamples, seed=seed)
    is_constant = not varies(list(np.concatenate(differences)))
    return Comparison(float(weighted.sum()), low, high, p_value, len(weighted), level, is_constant)


def _checked(values: Sequence[float]) -> Floats:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < 2:
        raise UserError(f"confidence intervals need at least 2 prompts, not {data.size}")
    return _finite(data)


def _finite(data: Floats) -> Floats:
    if not np.isfinite(data).all():
        raise UserError("a prompt's value is not finite; check the images of the prompt, and score them again")
    return data


def _in_blocks(count: int, width: int, compute: Callable[[int], Floats]) -> Floats:
    """Compute ``count`` numbers in blocks. ``compute(n)`` returns n numbers from ``width`` random values each."""
    rows = max(1, _BLOCK // width)
    return np.concatenate([compute(min(rows, count - done)) for done in range(0, count, rows)])

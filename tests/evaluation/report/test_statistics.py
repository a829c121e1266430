"""Tests confidence intervals and paired comparisons against simple implementations and known properties."""

import numpy as np
import pytest
import scipy.stats

from evaluation.contract import Result, Score
from evaluation.report.statistics import (
    bootstrap_interval,
    paired_comparison,
    sign_flip_p_value,
    stratified_interval,
)
from pocketdit.errors import UserError


def result(values: dict[str, float], metric: str = "clip-score") -> Result:
    return Result(metric, {"overall": Score(float(np.mean(list(values.values()))), len(values), values)}, {})


def reference_interval(groups: list[list[float]], level: float, resamples: int, seed: int) -> tuple[float, float]:
    """Compute the percentile bootstrap of the mean of the groups' means, one resample at a time."""
    random = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        resampled = [[group[random.integers(len(group))] for _ in group] for group in groups]
        means.append(np.mean([np.mean(group) for group in resampled]))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def test_interval_matches_a_plain_bootstrap() -> None:
    """The two implementations use different random numbers, so they agree only within Monte Carlo error."""
    values = np.random.default_rng(0).exponential(size=80).tolist()
    expected = reference_interval([values], level=0.9, resamples=5000, seed=2)
    width = expected[1] - expected[0]
    interval = bootstrap_interval(values, level=0.9, resamples=20_000, seed=1)
    assert interval == pytest.approx(expected, abs=0.04 * width)


def test_stratified_interval_matches_a_plain_bootstrap() -> None:
    """The groups differ in size, and one has only a single value."""
    random = np.random.default_rng(0)
    groups = [random.normal(mean, 1.0, size).tolist() for mean, size in ((0, 30), (2, 10), (5, 1))]
    expected = reference_interval(groups, level=0.95, resamples=5000, seed=2)
    width = expected[1] - expected[0]
    interval = stratified_interval(groups, resamples=20_000, seed=1)
    assert interval == pytest.approx(expected, abs=0.06 * width)
    assert stratified_interval([[1.0], [2.0]]) == (1.5, 1.5)


def test_interval_of_two_values_is_known() -> None:
    """Resamples of (0, 1) have the means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4."""
    assert bootstrap_interval([0.0, 1.0], level=0.6, resamples=4000) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.4, resamples=4000) == (0.5, 0.5)


def test_interval_covers_the_mean_at_its_level() -> None:
    random = np.random.default_rng(5)
    intervals = [bootstrap_interval(list(random.normal(1.0, 1.0, 60)), resamples=400, seed=i) for i in range(400)]
    covered = np.mean([low <= 1.0 <= high for low, high in intervals])
    assert 0.90 < covered < 0.98


def test_interval_depends_on_the_seed_but_not_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(0).normal(size=50))
    interval = bootstrap_interval(values, resamples=500, seed=3)
    assert interval == bootstrap_interval(values, resamples=500, seed=3)
    assert interval != bootstrap_interval(values, resamples=500, seed=4)
    monkeypatch.setattr("evaluation.report.statistics._BLOCK", 50 * 64)
    assert bootstrap_interval(values, resamples=500, seed=3) == interval


def test_equal_values_have_an_interval_of_width_zero() -> None:
    assert bootstrap_interval([0.25] * 9) == (0.25, 0.25)


@pytest.mark.parametrize("count", [5, 10, 14])
def test_p_value_of_few_differences_is_exact(count: int) -> None:
    values = np.random.default_rng(count).normal(0.4, 1.0, count)
    exact = scipy.stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p_value(list(values)) == pytest.approx(exact.pvalue, abs=1e-12)


def test_p_value_equals_hand_computed_values() -> None:
    """Two of the eight signed sums of (1, 2, 3) reach 6 in absolute value, and all of (1, 1, -1) reach 1."""
    assert sign_flip_p_value([1.0, 2.0, 3.0]) == 0.25
    assert sign_flip_p_value([1.0, 1.0, -1.0]) == 1.0
    assert sign_flip_p_value([0.1, 0.2, 0.3]) == 0.25  # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in float64
    assert sign_flip_p_value([0.0] * 20) == 1.0


def test_p_value_of_many_differences_is_sampled() -> None:
    values = np.random.default_rng(1).normal(0.25, 1.0, 60)
    p_value = sign_flip_p_value(list(values), resamples=40_000)
    theory = 2 * scipy.stats.norm.sf(abs(values.sum()) / np.sqrt(np.sum(values**2)))
    assert p_value == pytest.approx(theory, rel=0.1)
    assert sign_flip_p_value([1.0] * 60, resamples=999) == 0.001


def test_comparison_subtracts_the_first_score_from_the_second_by_prompt_id() -> None:
    random = np.random.default_rng(2)
    base = {f"p{i}": float(value) for i, value in enumerate(random.normal(0.3, 0.2, 100))}
    better = {name: base[name] + 0.05 + 0.01 * float(random.normal()) for name in reversed(base)}
    comparison = paired_comparison(result(base), result(better))
    assert comparison.difference == pytest.approx(0.05, abs=0.005)
    assert 0.045 < comparison.low < comparison.difference < comparison.high < 0.055
    assert comparison.p_value == pytest.approx(1 / 10_001)
    assert comparison.prompts == 100
    assert str(comparison) == "+0.0499 (95% interval +0.0480 to +0.0518), p = 9.999e-05, 100 prompts"
    reverse = paired_comparison(result(better), result(base))
    assert reverse.difference == pytest.approx(-comparison.difference)


def test_invalid_comparisons_are_errors() -> None:
    first, second = result({"a": 1.0, "b": 2.0, "c": 0.0}), result({"b": 2.0, "c": 0.0, "d": 1.0, "e": 1.0})
    with pytest.raises(UserError, match=r"3 prompts \(such as a, d, e\) scored in only one of the two"):
        paired_comparison(first, second)
    with pytest.raises(UserError, match="clip-score cannot be compared with geneval"):
        paired_comparison(first, result({"a": 1.0}, metric="geneval"))
    with pytest.raises(UserError, match='"colors" has no per-prompt values'):
        paired_comparison(first, first, score="colors")
    with pytest.raises(UserError, match="at least 2 prompts, not 1"):
        bootstrap_interval([1.0])
    with pytest.raises(UserError, match="not finite"):
        bootstrap_interval([1.0, float("nan")])
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_interval([1.0, 2.0], level=95)

"""Intervals and paired comparisons against scipy's, and against what is known of them."""

import numpy as np
import pytest
import scipy.stats

from evaluation.contract import Result, Score
from evaluation.report.statistics import bootstrap_interval, paired_comparison, sign_flip_p_value
from pocketdit.errors import UserError


def result(values: dict[str, float], metric: str = "clip-score") -> Result:
    return Result(metric, {"overall": Score(float(np.mean(list(values.values()))), len(values), values)}, {})


def test_interval_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).exponential(size=80)
    low, high = bootstrap_interval(list(values), level=0.9, resamples=20_000, seed=1)
    other = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    spread = float(other.high - other.low)
    assert low == pytest.approx(other.low, abs=0.02 * spread)
    assert high == pytest.approx(other.high, abs=0.02 * spread)


def test_two_values_have_a_distribution_that_can_be_counted() -> None:
    """Draws of two from (0, 1) have means 0, 1/2, 1 with chances 1/4, 1/2, 1/4."""
    assert bootstrap_interval([0.0, 1.0], level=0.6, resamples=4000) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.4, resamples=4000) == (0.5, 0.5)


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    intervals = [bootstrap_interval(list(random.normal(1.0, 1.0, 60)), resamples=400, seed=i) for i in range(400)]
    covered = np.mean([low <= 1.0 <= high for low, high in intervals])
    assert 0.90 < covered < 0.98


def test_one_seed_gives_one_interval_and_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(0).normal(size=50))
    whole = bootstrap_interval(values, resamples=500, seed=3)
    assert whole == bootstrap_interval(values, resamples=500, seed=3)
    assert whole != bootstrap_interval(values, resamples=500, seed=4)
    monkeypatch.setattr("evaluation.report.statistics._BLOCK", 50 * 64)
    assert bootstrap_interval(values, resamples=500, seed=3) == whole


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert bootstrap_interval([0.25] * 9) == (0.25, 0.25)


@pytest.mark.parametrize("count", [5, 10, 14])
def test_p_of_few_differences_is_exact(count: int) -> None:
    values = np.random.default_rng(count).normal(0.4, 1.0, count)
    exact = scipy.stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p_value(list(values)) == pytest.approx(exact.pvalue, abs=1e-12)


def test_p_by_hand() -> None:
    """Of the eight signs of (1, 2, 3) only two sum to 6 in size; of (1, 1, -1) all sum to 1 or more."""
    assert sign_flip_p_value([1.0, 2.0, 3.0]) == 0.25
    assert sign_flip_p_value([1.0, 1.0, -1.0]) == 1.0
    assert sign_flip_p_value([0.1, 0.2, 0.3]) == 0.25  # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in float64
    assert sign_flip_p_value([0.0] * 20) == 1.0


def test_p_of_many_differences_is_drawn() -> None:
    values = np.random.default_rng(1).normal(0.25, 1.0, 60)
    found = sign_flip_p_value(list(values), resamples=40_000)
    theory = 2 * scipy.stats.norm.sf(abs(values.sum()) / np.sqrt(np.sum(values**2)))
    assert found == pytest.approx(theory, rel=0.1)
    assert sign_flip_p_value([1.0] * 60, resamples=999) == 0.001


def test_comparison_is_second_minus_first_by_prompt_id() -> None:
    random = np.random.default_rng(2)
    base = {f"p{i}": float(value) for i, value in enumerate(random.normal(0.3, 0.2, 100))}
    better = {name: base[name] + 0.05 + 0.01 * float(random.normal()) for name in reversed(base)}
    found = paired_comparison(result(base), result(better))
    assert found.difference == pytest.approx(0.05, abs=0.005)
    assert 0.045 < found.low < found.difference < found.high < 0.055
    assert found.p_value == pytest.approx(1 / 10_001)
    assert found.prompts == 100
    assert str(found) == "+0.0499 (95 % interval +0.0480 to +0.0518), p = 9.999e-05, 100 prompts"
    back = paired_comparison(result(better), result(base))
    assert back.difference == pytest.approx(-found.difference)


def test_what_cannot_be_compared_is_refused() -> None:
    ours, theirs = result({"a": 1.0, "b": 2.0, "c": 0.0}), result({"b": 2.0, "c": 0.0, "d": 1.0, "e": 1.0})
    with pytest.raises(UserError, match="3 prompts were scored by only one of the two, such as a, d, e"):
        paired_comparison(ours, theirs)
    with pytest.raises(UserError, match="clip-score does not compare with geneval"):
        paired_comparison(ours, result({"a": 1.0}, metric="geneval"))
    with pytest.raises(UserError, match='"colors" has no values by prompt'):
        paired_comparison(ours, ours, score="colors")
    with pytest.raises(UserError, match="1 prompts: at least 2"):
        bootstrap_interval([1.0])
    with pytest.raises(UserError, match="not finite"):
        bootstrap_interval([1.0, float("nan")])
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_interval([1.0, 2.0], level=95)

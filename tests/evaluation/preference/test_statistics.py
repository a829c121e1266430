"""Tests win rates, Bradley-Terry scores and agreement against manual calculations, and the intervals' coverage."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from evaluation.preference.design import all_pairs, deal
from evaluation.preference.report.statistics import agreement, bradley_terry, win_rate
from evaluation.preference.report.votes import Vote


def vote(rater: int, prompt: str, value: float, first: str = "a", second: str = "b") -> Vote:
    return Vote(rater, prompt, "realism", first, second, value)


SMALL = [
    *(vote(0, prompt, value) for prompt, value in zip("wxyz", (1, 1, 0, 0.5), strict=True)),
    *(vote(1, prompt, value) for prompt, value in zip("wxyz", (1, 0, 0, 1), strict=True)),
    *(vote(2, prompt, value) for prompt, value in zip("wxy", (1, 1, 1), strict=True)),
]


def test_small_case_by_hand() -> None:
    """Eleven votes of three raters on four prompts: seven wins, a tie and three losses."""
    result = win_rate(SMALL)
    assert (result.wins, result.ties, result.losses, result.raters, result.prompts) == (7, 1, 3, 3, 4)
    rate = 7.5 / 11
    assert result.rate == pytest.approx(rate)
    # The raters have 2.5, 2 and 3 wins in 4, 4 and 3 votes. The prompts have 3, 2, 1 and 1.5 wins in 3, 3, 3 and 2
    # votes.
    by_rater = [2.5 - 4 * rate, 2 - 4 * rate, 3 - 3 * rate]
    by_prompt = [3 - 3 * rate, 2 - 3 * rate, 1 - 3 * rate, 1.5 - 2 * rate]
    by_vote = [7 * (1 - rate) ** 2, 3 * rate**2, (0.5 - rate) ** 2]
    scale = (11 * rate * (1 - rate)) ** -2
    one = scale * 3 / 2 * sum(x * x for x in by_rater)
    other = scale * 4 / 3 * sum(x * x for x in by_prompt)
    both = one + other - scale * 11 / 10 * sum(by_vote)
    width = 4.302652729911275 * math.sqrt(max(one, other, both))  # Student's t with 2 degrees of freedom
    center = math.log(rate / (1 - rate))
    expected = [1 / (1 + math.exp(-end)) for end in (center - width, center + width)]
    assert result.interval == pytest.approx(expected, rel=1e-6)


def test_interval_of_the_opposite_pair_is_mirrored() -> None:
    mirrored = win_rate([vote(v.rater, v.prompt, 1 - v.value) for v in SMALL])
    low, high = win_rate(SMALL).interval or (0, 0)
    assert mirrored.rate == pytest.approx(1 - win_rate(SMALL).rate)
    assert mirrored.interval == pytest.approx((1 - high, 1 - low))


def test_equal_votes_have_an_exact_interval_for_the_fewer_clusters() -> None:
    result = win_rate([vote(rater, prompt, 1) for rater in range(5) for prompt in "uvwxyz"])
    assert result.rate == 1
    assert result.interval == pytest.approx((0.025 ** (1 / 5), 1))  # as for five votes: low ** 5 = 0.025
    losses = win_rate([vote(rater, prompt, 0) for rater in range(5) for prompt in "uvwxyz"])
    assert losses.interval == pytest.approx((0, 1 - 0.025 ** (1 / 5)))
    assert win_rate([vote(0, "x", 0.5), vote(1, "y", 0.5)]).interval is None


def test_one_rater_or_prompt_has_no_interval() -> None:
    assert win_rate([vote(0, prompt, value) for prompt, value in zip("xyz", (1, 0, 1), strict=True)]).interval is None
    assert win_rate([vote(rater, "x", value) for rater, value in enumerate((1, 0, 1))]).interval is None


def test_bradley_terry_of_two_subjects_is_half_the_log_odds() -> None:
    scores = bradley_terry(SMALL, ["a", "b"])
    assert scores is not None
    assert scores["a"].value == pytest.approx(math.log(7.5 / 3.5) / 2)
    assert scores["b"].value == pytest.approx(-scores["a"].value)
    low, high = win_rate(SMALL).interval or (0, 0)
    odds = [math.log(end / (1 - end)) / 2 for end in (low, high)]
    assert scores["a"].interval == pytest.approx(odds, rel=1e-5)


def test_bradley_terry_agrees_with_zermelos_iteration() -> None:
    wins = {("a", "b"): 7, ("b", "a"): 3, ("a", "c"): 8, ("c", "a"): 4, ("b", "c"): 5, ("c", "b"): 6}
    votes = []
    for (winner, loser), number in wins.items():
        first, second = sorted((winner, loser))
        votes += [vote(i % 4, str(i % 5), float(winner == first), first, second) for i in range(number)]
    strengths = dict.fromkeys("abc", 1.0)
    for _ in range(2000):  # the algorithm of Zermelo (1929)
        strengths = {
            i: sum(wins[i, j] for j in "abc" if j != i)
            / sum((wins[i, j] + wins[j, i]) / (strengths[i] + strengths[j]) for j in "abc" if j != i)
            for i in "abc"
        }
    logs = {name: math.log(value) for name, value in strengths.items()}
    mean = sum(logs.values()) / 3
    scores = bradley_terry(votes, ["c", "unknown", "b", "a"])
    assert scores is not None
    assert list(scores) == ["c", "b", "a"]
    assert {name: score.value for name, score in scores.items()} == pytest.approx(
        {name: value - mean for name, value in logs.items()}, abs=1e-6
    )


def test_scores_that_are_not_finite_are_left_out() -> None:
    assert bradley_terry([vote(0, "x", 1), vote(1, "y", 1)], ["a", "b"]) is None  # subject a always wins
    separate = [vote(0, "x", 1), vote(0, "y", 0), vote(0, "x", 1, "c", "d"), vote(0, "y", 0, "c", "d")]
    assert bradley_terry(separate, list("abcd")) is None  # no vote connects the two pairs of subjects
    assert bradley_terry([], ["a", "b"]) is None


def test_scores_of_ties_are_equal() -> None:
    scores = bradley_terry([vote(0, "x", 0.5), vote(1, "y", 0.5)], ["a", "b"])
    assert scores is not None
    assert {name: (score.value, score.interval) for name, score in scores.items()} == {"a": (0, None), "b": (0, None)}


def test_agreement_by_hand() -> None:
    """Two raters agree on three of four units: alpha = 1 - (2 / 8) / (2 * 3 * 5 / (8 * 7)) = 0.5333."""
    votes = [
        vote(rater, prompt, value)
        for rater, values in enumerate(((1, 1, 0, 0), (1, 0, 0, 0)))
        for prompt, value in zip("wxyz", values, strict=True)
    ]
    assert agreement(votes) == pytest.approx(1 - (2 / 8) / (30 / 56))
    assert agreement([*votes, vote(0, "v", 1)]) == pytest.approx(1 - (2 / 8) / (30 / 56))  # a single vote is ignored
    half = [*votes[:5], vote(1, "x", 0.5), *votes[6:]]
    assert (agreement(half) or 0) > (agreement(votes) or 0)  # a tie disagrees less than an opposite vote


def test_agreement_is_not_defined_without_shared_or_different_votes() -> None:
    assert agreement([]) is None
    assert agreement([vote(0, "x", 1), vote(1, "y", 0)]) is None
    assert agreement([vote(0, "x", 1), vote(1, "x", 1)]) is None


def simulated(random: np.random.Generator, raters: int, prompts: int, hand: int, spread: float) -> list[Vote]:
    """Draw votes. The probit of a win is 0.4 plus normally distributed effects of the rater and the prompt."""
    pairs = all_pairs(range(prompts), [("a", "b")])
    of_rater, of_prompt = random.normal(0, spread, raters), random.normal(0, spread, prompts)
    return [
        vote(rater, str(pairs[card].prompt), float(random.normal() < 0.4 + of_rater[rater] + of_prompt[card]))
        for rater in range(raters)
        for card in deal(len(pairs), hand, 0, rater)
    ]


def coverage(raters: int, prompts: int, hand: int, spread: float, repetitions: int) -> tuple[float, float]:
    """Return how often our intervals, and intervals that assume independent votes, contain the true win rate."""
    random = np.random.default_rng(0)
    truth = stats.norm.cdf(0.4 / math.sqrt(1 + 2 * spread**2))  # averaged over all possible raters and prompts
    ours = naive = 0
    for _ in range(repetitions):
        result = win_rate(simulated(random, raters, prompts, hand, spread))
        low, high = result.interval or (0, 1)
        ours += low <= truth <= high
        naive += abs(result.rate - truth) <= 1.96 * math.sqrt(result.rate * (1 - result.rate) / (raters * hand))
    return ours / repetitions, naive / repetitions


def test_intervals_cover_known_preferences() -> None:
    ours, naive = coverage(raters=8, prompts=16, hand=8, spread=0.6, repetitions=60)
    assert ours >= 0.9
    assert naive < 0.85


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raters", "prompts", "hand", "spread"), [(10, 40, 20, 0.5), (24, 30, 15, 0.5), (20, 60, 12, 0.0)]
)
def test_intervals_cover_known_preferences_as_often_as_they_claim(
    raters: int, prompts: int, hand: int, spread: float
) -> None:
    """With 400 repetitions, a coverage of 95% is estimated with a standard error of 1.1%."""
    ours, naive = coverage(raters, prompts, hand, spread, repetitions=400)
    print(f"{raters} raters, {prompts} prompts, {hand} pairs each, spread {spread}: {ours:.3f}, naive {naive:.3f}")
    assert 0.93 <= ours <= 0.99
    assert (naive < 0.8) == (spread > 0)


@pytest.mark.slow
def test_intervals_of_scores_cover_known_strengths() -> None:
    random = np.random.default_rng(0)
    strengths = {"a": 0.6, "b": 0.1, "c": -0.7}
    repetitions, hits = 400, dict.fromkeys(strengths, 0)
    for _ in range(repetitions):
        votes = [
            vote(rater, str(prompt), float(random.random() < stats.logistic.cdf(strengths[i] - strengths[j])), i, j)
            for rater in range(12)
            for prompt in range(8)
            for i, j in combinations(strengths, 2)
        ]
        scores = bradley_terry(votes, list(strengths))
        assert scores is not None
        for name, score in scores.items():
            low, high = score.interval or (0, 0)
            hits[name] += low <= strengths[name] <= high
    print({name: number / repetitions for name, number in hits.items()})
    assert all(0.93 <= number / repetitions <= 0.99 for number in hits.values())

"""Tests that a rater's pairs are distinct, that all pairs are used equally often, and that the sides are balanced."""

from collections import Counter

import pytest

from evaluation.preference.design import Comparison, all_pairs, deal, noise_prompts, plan
from pocketdit.errors import ConfigError

PAIRS = all_pairs(range(10), [("a", "b"), ("a", "c"), ("b", "c")])
NOISE = all_pairs([0, 1], [("a", "b"), ("a", "c"), ("b", "c")])


@pytest.mark.parametrize(("cards", "hand"), [(30, 7), (30, 30), (7, 5), (5, 1), (13, 12), (100, 33)])
def test_hands_have_no_card_twice_and_cards_are_dealt_equally_often(cards: int, hand: int) -> None:
    counts: Counter[int] = Counter()
    for rater in range(40):
        own = deal(cards, hand, 0, rater)
        assert len(own) == len(set(own)) == hand
        counts.update(own)
        seen = [counts[card] for card in range(cards)]
        assert max(seen) - min(seen) <= 1


def test_hands_depend_on_the_seed_and_the_rater_only() -> None:
    hands = {(seed, rater): tuple(deal(100, 20, seed, rater)) for seed in range(2) for rater in range(10)}
    assert len(set(hands.values())) == 20
    assert tuple(deal(100, 20, 1, 7)) == hands[1, 7]


def planned(rater: int, hand: int = 15, noise: int = 3, repeat: int = 2) -> list[Comparison]:
    return plan(PAIRS, hand, NOISE, (noise, repeat), 0, rater)


def test_sides_are_balanced_within_every_rater_and_drawn() -> None:
    lefts: Counter[tuple[int, str, str]] = Counter()
    for rater in range(200):
        sides: Counter[tuple[str, str]] = Counter()
        for comparison in planned(rater):
            if comparison.kind == "pair":
                sides[comparison.left, comparison.right] += 1
                lefts[comparison.prompt, comparison.left, comparison.right] += 1
        for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
            assert abs(sides[first, second] - sides[second, first]) <= 1
    # Each of the 30 pairs is shown 100 times. A binomial count is outside [25, 75] with probability 2e-7.
    for prompt in range(10):
        for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
            assert lefts[prompt, first, second] + lefts[prompt, second, first] == 100
            assert 25 <= lefts[prompt, first, second] <= 75


def test_checks_are_spread_and_repeats_follow_their_originals_with_the_sides_swapped() -> None:
    for rater in range(100):
        shown = planned(rater)
        assert Counter(item.kind for item in shown) == {"pair": 15, "noise": 3, "repeat": 2}
        assert shown[0].kind == "pair"
        for place, item in enumerate(shown):
            assert (item.repeats is not None) == (item.kind == "repeat")
            assert ("" in (item.left, item.right)) == (item.kind == "noise")
            if item.kind == "noise":
                assert item.prompt in (0, 1)
            if item.repeats is not None:
                original = shown[item.repeats]
                assert original.kind == "pair"
                assert (item.prompt, item.left, item.right) == (original.prompt, original.right, original.left)
                assert place - item.repeats >= 3
        repeated = [item.repeats for item in shown if item.repeats is not None]
        assert len(set(repeated)) == 2
    noisy = [item for rater in range(100) for item in planned(rater) if item.kind == "noise"]
    assert 100 < sum(item.left == "" for item in noisy) < 200
    assert {item.left or item.right for item in noisy} == {"a", "b", "c"}


@pytest.mark.parametrize("hand", [1, 2, 3])
def test_short_sessions(hand: int) -> None:
    shown = planned(3, hand=hand, noise=4, repeat=hand // 2)
    assert len(shown) == hand + 4 + hand // 2
    assert shown[0].kind == "pair"


def test_too_many_repeats_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"checks\.repeat: 8 is too many for 15 pairs per rater; use at most 7"):
        planned(0, repeat=8)


def test_few_prompts_have_noise() -> None:
    assert noise_prompts(3, 0) == [0, 1, 2]
    assert len(set(noise_prompts(1000, 0))) == 16
    assert noise_prompts(1000, 0) != noise_prompts(1000, 1)

"""Determines what each rater compares, as a pure function of the settings, the seed and the rater's number.

Pairs of images are dealt like cards. All pairs form a deck, which is shuffled, and each rater takes a hand of
consecutive cards. When a deck runs out, the next one is shuffled. At any time, the numbers of raters per pair therefore
differ by at most one. Within a hand, each pair of subjects has its sides swapped in half of the comparisons, which are
chosen at random.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from pocketdit.counts import counted
from pocketdit.errors import ConfigError

Kind = Literal["pair", "noise", "repeat"]

_NOISE_PROMPTS = 16


@dataclass(frozen=True)
class Pair:
    """The images of two subjects for one prompt.

    Attributes:
        prompt: Index of the prompt.
        first: Name of a subject.
        second: Name of another subject.
    """

    prompt: int
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """Two images as one rater sees them.

    Attributes:
        kind: A pair of images, an image next to noise, or an earlier pair that is repeated with its sides swapped.
        prompt: Index of the prompt.
        left: Subject of the left image; "" for noise.
        right: Subject of the right image; "" for noise.
        repeats: Position (from 0) of the comparison that this comparison repeats; None for the other kinds.
    """

    kind: Kind
    prompt: int
    left: str
    right: str
    repeats: int | None = None


def all_pairs(prompts: Iterable[int], subjects: Sequence[tuple[str, str]]) -> list[Pair]:
    """Return a pair of images for each prompt index and each pair of subjects."""
    return [Pair(prompt, first, second) for prompt in prompts for first, second in subjects]


def deal(cards: int, hand: int, seed: int, rater: int) -> list[int]:
    """Return the cards that are dealt to a rater.

    Args:
        cards: Number of cards in a deck.
        hand: Number of cards that are dealt to each rater, at most ``cards``.
        seed: Seed of the decks.
        rater: Number of the rater, from 0.

    Returns:
        Distinct card indices.
    """
    first = rater * hand
    dealt: list[int] = []
    held: set[int] = set()  # the cards of a hand that continues in the next deck
    for number in range((first + hand - 1) // cards + 1):
        deck = list(range(cards))
        Random(repr(("deck", seed, number))).shuffle(deck)
        # The hand that began in the previous deck must not contain a card twice.
        deck.sort(key=held.__contains__)
        start = number * cards
        dealt += deck[max(0, first - start) : max(0, first + hand - start)]
        rest = (start + cards) % hand
        held = set(deck[-rest:]) if rest else set()
    return dealt


def noise_prompts(prompts: int, seed: int) -> list[int]:
    """Return the prompts whose images are shown next to noise, at most 16, because noise images are large files."""
    return sorted(Random(repr(("noise", seed))).sample(range(prompts), min(prompts, _NOISE_PROMPTS)))


def plan(
    pairs: Sequence[Pair], hand: int, noise: Sequence[Pair], checks: tuple[int, int], seed: int, rater: int
) -> list[Comparison]:
    """Return the comparisons of a rater in the order in which they are shown.

    Comparisons with noise are spread over the whole session, except for its start. Comparisons from the first half of
    the session are repeated in its last third.

    Args:
        pairs: All pairs of images.
        hand: Number of pairs that each rater compares, at most ``len(pairs)``.
        noise: Pairs of which one image can be shown next to noise.
        checks: Number of comparisons with noise, and number of repeated comparisons.
        seed: Seed of all draws.
        rater: Number of the rater, from 0.

    Raises:
        ConfigError: There are too few pairs for the repeated comparisons.
    """
    with_noise, repeat = checks
    if repeat > hand // 2:
        raise ConfigError(
            f"checks.repeat: {repeat} is too many for {counted(hand, 'pair')} per rater; use at most {hand // 2}"
        )
    random = Random(repr(("rater", seed, rater)))
    own = [pairs[card] for card in deal(len(pairs), hand, seed, rater)]
    shown = [_placed(pair, swap) for pair, swap in zip(own, _balanced_sides(own, random), strict=True)]
    originals = random.sample(range(max(1, hand // 2)), repeat)
    placed: list[tuple[float, Comparison]] = [(float(i), comparison) for i, comparison in enumerate(shown)]
    for index in originals:
        original = shown[index]
        again = replace(original, kind="repeat", left=original.right, right=original.left, repeats=index)
        placed.append((random.uniform(hand * 2 / 3, hand), again))
    for index in range(with_noise):
        pair = random.choice(noise)
        subject = random.choice((pair.first, pair.second))
        sides = (subject, "") if random.random() < 0.5 else ("", subject)
        place = random.uniform(max(1.0, hand * index / with_noise), hand * (index + 1) / with_noise)
        placed.append((place, Comparison("noise", pair.prompt, *sides)))
    ordered = [comparison for _, comparison in sorted(placed, key=lambda item: item[0])]
    places = {id(comparison): place for place, comparison in enumerate(ordered)}
    return [
        comparison if comparison.repeats is None else replace(comparison, repeats=places[id(shown[comparison.repeats])])
        for comparison in ordered
    ]


def _placed(pair: Pair, swap: bool) -> Comparison:
    left, right = (pair.second, pair.first) if swap else (pair.first, pair.second)
    return Comparison("pair", pair.prompt, left, right)


def _balanced_sides(pairs: Sequence[Pair], random: Random) -> list[bool]:
    """For each pair, return whether its sides are swapped. Half of the pairs of any two subjects are swapped."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        groups[pair.first, pair.second].append(index)
    swapped = [False] * len(pairs)
    for indices in groups.values():
        half = (len(indices) + random.randrange(2)) // 2  # if the number is odd, either part can be the larger one
        for index in random.sample(indices, half):
            swapped[index] = True
    return swapped

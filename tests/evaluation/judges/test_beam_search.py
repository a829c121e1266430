"""Tests mPLUG's beam search against exhaustive enumeration and hand-computed cases."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation.judges.beam_search import beam_search


def random_logits(seed: int, tokens: int) -> Callable[[Tensor], Tensor]:
    """Return a function that assigns random logits to each sequence."""
    generator = np.random.default_rng(seed)
    known: dict[tuple[int, ...], list[float]] = {}

    def next_logits(alive: Tensor) -> Tensor:
        rows = [known.setdefault(tuple(row), list(generator.normal(0, 1.5, tokens))) for row in alive.tolist()]
        return torch.tensor(rows, dtype=torch.float32)

    return next_logits


@pytest.mark.parametrize("seed", range(12))
def test_search_with_enough_beams_matches_enumeration(seed: int) -> None:
    tokens, max_tokens, end = 4, 3, 2
    next_logits = random_logits(seed, tokens)

    def score(sequence: tuple[int, ...]) -> float:
        total = 0.0
        for i, token in enumerate(sequence):
            row = next_logits(torch.tensor([[0, *sequence[:i]]]))[0].double().log_softmax(0)
            total += -1e20 if i == 0 and token == end else float(row[token])
        return total / math.pow((5 + len(sequence)) / 6, 0.6)

    # The search stops when the best sequence of the current length has ended. The answer is the best sequence that has
    # ended so far.
    ended: dict[tuple[int, ...], float] = {}
    for length in range(1, max_tokens + 1):
        scores = {sequence: score(sequence) for sequence in product(range(tokens), repeat=length)}
        best = max(scores, key=lambda sequence: scores[sequence])
        ended |= {sequence: value for sequence, value in scores.items() if sequence[-1] == end}
        if best[-1] == end or length == max_tokens:
            ended[best] = scores[best]
            break
    expected = max(ended, key=lambda sequence: ended[sequence])
    assert beam_search(next_logits, beams=64, min_tokens=1, max_tokens=max_tokens, start=0, end=end) == list(expected)


# Probabilities of the tokens 0 (start), 1, 2 (end) and 3 after each sequence.
STEPS = {(0,): (0, 0.6, 0, 0.4), (0, 1): (0, 0.5, 0.5, 0), (0, 3): (0, 0.02, 0.98, 0)}


def scripted_logits(alive: Tensor) -> Tensor:
    rows = [STEPS.get(tuple(row), (0.25, 0.25, 0.25, 0.25)) for row in alive.tolist()]
    return torch.tensor(rows).clamp_min(1e-9).log()


def test_wider_beam_finds_a_better_answer_with_a_worse_start() -> None:
    assert beam_search(scripted_logits, beams=1, min_tokens=1, max_tokens=2, start=0, end=2)[0] == 1
    assert beam_search(scripted_logits, beams=2, min_tokens=1, max_tokens=2, start=0, end=2) == [3, 2]


@pytest.mark.parametrize(("total", "expected"), [(-1.295, [1, 3, 2]), (-1.312, [1, 2])])
def test_length_penalty_gives_the_hand_computed_answer(total: float, expected: list[int]) -> None:
    # The sequence "1 2" has the log probability log 0.3 = -1.204. With the length penalty, "1 3 2" is the better answer
    # if its log probability exceeds ((5 + 3) / (5 + 2))^0.6 x -1.204 = -1.3044, even if it is less probable.
    steps = {
        (0,): (0, 1, 0, 0),
        (0, 1): (0, 0.2, 0.3, 0.5),
        (0, 1, 3): (0, 1 - 2 * math.exp(total), 2 * math.exp(total), 0),
    }

    def next_logits(alive: Tensor) -> Tensor:
        rows = [steps.get(tuple(row), (0.25, 0.25, 0.25, 0.25)) for row in alive.tolist()]
        return torch.tensor(rows).clamp_min(1e-9).log()

    assert beam_search(next_logits, beams=3, min_tokens=1, max_tokens=4, start=0, end=2) == expected


def test_length_is_within_the_limits() -> None:
    def ends_at_once(alive: Tensor) -> Tensor:
        return torch.tensor([[0.0, 1.0, 5.0, 0.0]]).expand(len(alive), -1)

    def never_ends(alive: Tensor) -> Tensor:
        return torch.tensor([[0.0, 1.0, -50.0, 0.0]]).expand(len(alive), -1)

    assert beam_search(ends_at_once, beams=3, min_tokens=2, max_tokens=5, start=0, end=2) == [1, 1, 2]
    assert beam_search(never_ends, beams=3, min_tokens=1, max_tokens=5, start=0, end=2) == [1] * 5

"""Tests for turning answers into votes and for excluding raters who fail too many checks, recomputed by hand."""

from datetime import UTC, datetime

from evaluation.preference.report.votes import Answer, Attention, Vote, attention, votes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAIRS = [("a", "b")]


def shown(rater: int, position: int, left: str, right: str, choices: str, repeats: int | None = None) -> list[Answer]:
    """Return the answers to the questions q0, q1, ... of a comparison. Choices are written as l, t and r."""
    kind = "repeat" if repeats is not None else "noise" if "" in (left, right) else "pair"
    names = {"l": "left", "t": "tie", "r": "right"}
    return [
        Answer(rater, position, kind, repeats, f"p{position}", left, right, f"q{i}", names[choice], NOW, 0)
        for i, choice in enumerate(choices)
    ]


def test_votes_refer_to_the_subjects_regardless_of_the_sides() -> None:
    answers = [*shown(0, 0, "a", "b", "lt"), *shown(0, 1, "b", "a", "lr")]
    assert votes(answers, PAIRS, attention(answers, 2), 0) == [
        Vote(0, "p0", "q0", "a", "b", 1.0),
        Vote(0, "p0", "q1", "a", "b", 0.5),
        Vote(0, "p1", "q0", "a", "b", 0.0),
        Vote(0, "p1", "q1", "a", "b", 1.0),
    ]
    assert votes(answers, [("b", "a")], attention(answers, 2), 0)[0] == Vote(0, "p0", "q0", "b", "a", 0.0)


def test_noise_fails_if_any_answer_is_not_the_image() -> None:
    answers = [
        *shown(0, 0, "a", "", "ll"),
        *shown(1, 0, "a", "", "lr"),
        *shown(2, 0, "", "a", "rt"),
        *shown(3, 0, "", "a", "l"),  # the second question has not been answered yet
    ]
    assert attention(answers, 2) == {
        0: Attention(1, 0, 0),
        1: Attention(1, 1, 0),
        2: Attention(1, 1, 0),
        3: Attention(0, 0, 0),
    }


def test_repeat_fails_if_all_answers_contradict_those_of_the_first_time() -> None:
    first = "lr"
    cases = {"rl": False, "lr": True, "ll": False, "lt": False, "tt": False, "rr": False}
    for again, fails in cases.items():  # the sides are swapped, so the same side is a contradiction
        answers = [*shown(0, 0, "a", "b", first), *shown(0, 1, "b", "a", again, repeats=0)]
        assert attention(answers, 2)[0] == Attention(1, 0, int(fails)), again
    tied = [*shown(0, 0, "a", "b", "lt"), *shown(0, 1, "b", "a", "ll", repeats=0)]
    assert attention(tied, 2)[0].failures == 0
    partial = [*shown(0, 0, "a", "b", "l"), *shown(0, 1, "b", "a", "ll", repeats=0)]
    assert attention(partial, 2)[0] == Attention(0, 0, 0)


def test_raters_above_the_limit_are_excluded_and_checks_are_no_votes() -> None:
    good = [*shown(0, 0, "a", "b", "l"), *shown(0, 1, "a", "", "l"), *shown(0, 2, "b", "a", "r", repeats=0)]
    once = [*shown(1, 0, "a", "b", "r"), *shown(1, 1, "a", "", "r"), *shown(1, 2, "b", "a", "l", repeats=0)]
    answers = [*good, *once, *shown(2, 0, "b", "a", "l"), *shown(2, 1, "", "b", "l"), *shown(2, 2, "a", "b", "l", 0)]
    outcomes = attention(answers, 1)
    assert {rater: outcome.failures for rater, outcome in outcomes.items()} == {0: 0, 1: 1, 2: 2}
    for allowed, raters in ((0, {0}), (1, {0, 1}), (2, {0, 1, 2})):
        counted = votes(answers, PAIRS, outcomes, allowed)
        assert [vote.rater for vote in counted] == sorted(raters)


def test_rater_who_always_chooses_the_left_image_fails_every_repeat() -> None:
    answers = [*shown(0, 0, "a", "b", "lll"), *shown(0, 1, "b", "a", "lll", repeats=0)]
    assert attention(answers, 3)[0].repeat == 1

"""All results of a preference study, computed from its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.preference.report.statistics import Strength, WinRate, agreement, bradley_terry, win_rate
from evaluation.preference.report.votes import Answer, Attention, Vote, attention, votes
from evaluation.preference.settings import Preference

Pair = tuple[str, str]


@dataclass(frozen=True)
class Summary:
    """The results of a preference study.

    Attributes:
        attention: Mapping from rater numbers to the outcomes of the attention checks.
        excluded: Numbers of the raters who failed too many checks.
        votes: The votes of all other raters.
        win_rates: Win rate for each question and pair of subjects, except for pairs without votes.
        scores: Bradley-Terry scores for each question; None if they are not finite.
        agreement: Krippendorff's alpha for each question; None if it is not defined.
    """

    attention: dict[int, Attention]
    excluded: tuple[int, ...]
    votes: tuple[Vote, ...]
    win_rates: dict[tuple[str, Pair], WinRate]
    scores: dict[str, dict[str, Strength] | None]
    agreement: dict[str, float | None]


def summarize(settings: Preference, answers: Sequence[Answer]) -> Summary:
    """Compute all results."""
    outcomes = attention(answers, len(settings.questions))
    allowed = settings.checks.allowed_failures
    counted = votes(answers, settings.pairs, outcomes, allowed)
    by_question = {name: [vote for vote in counted if vote.question == name] for name in settings.questions}
    rates: dict[tuple[str, Pair], WinRate] = {}
    for name, own in by_question.items():
        for pair in settings.pairs:
            if of_pair := [vote for vote in own if (vote.first, vote.second) == pair]:
                rates[name, pair] = win_rate(of_pair)
    return Summary(
        outcomes,
        tuple(rater for rater, outcome in outcomes.items() if outcome.failures > allowed),
        tuple(counted),
        rates,
        {name: bradley_terry(own, list(settings.subjects)) for name, own in by_question.items()},
        {name: agreement(own) for name, own in by_question.items()},
    )

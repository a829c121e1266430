"""Formats the results of a preference study as CSV files and as text."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from tabulate import tabulate

from evaluation.preference.report.statistics import Interval
from evaluation.preference.report.summary import Summary
from evaluation.preference.report.votes import Answer

ANSWERS, WIN_RATES, SCORES = "answers.csv", "win_rates.csv", "scores.csv"
_RATE_COLUMNS = ("question", "first", "second", "wins", "ties", "losses", "win_rate", "low_95", "high_95", "raters",
                 "prompts")  # fmt: skip
_ANSWER_COLUMNS = ("rater", "excluded", "position", "kind", "repeats", "prompt", "left", "right", "question", "choice",
                   "preferred", "answered", "changes")  # fmt: skip


def csv_files(summary: Summary, answers: Sequence[Answer]) -> dict[str, str]:
    """Return a mapping from the names of the CSV files to their contents."""
    rates = [
        (
            question,
            *pair,
            rate.wins,
            rate.ties,
            rate.losses,
            rate.rate,
            *_bounds(rate.interval),
            rate.raters,
            rate.prompts,
        )
        for (question, pair), rate in summary.win_rates.items()
    ]
    scores = [
        (question, subject, strength.value, *_bounds(strength.interval))
        for question, strengths in summary.scores.items()
        for subject, strength in (strengths or {}).items()
    ]
    rows = [
        (
            a.rater, int(a.rater in summary.excluded), a.position, a.kind, "" if a.repeats is None else a.repeats,
            a.prompt, a.left or "noise", a.right or "noise", a.question, a.choice,
            "" if a.preferred is None else a.preferred or "noise", _utc(a.answered).isoformat(timespec="seconds"),
            a.changes,
        )
        for a in answers
    ]  # fmt: skip
    return {
        ANSWERS: _csv(_ANSWER_COLUMNS, rows),
        WIN_RATES: _csv(_RATE_COLUMNS, rates),
        SCORES: _csv(("question", "subject", "score", "low_95", "high_95"), scores),
    }


def rates_table(summary: Summary) -> str:
    """Return the win rates as a text table."""
    rows = [
        (question, f"{first} vs. {second}", f"{rate.rate:.3f}", format_interval(rate.interval), rate.wins, rate.ties,
         rate.losses)
        for (question, (first, second)), rate in summary.win_rates.items()
    ]  # fmt: skip
    headers = ("question", "pair", "win rate", "95% interval", "wins", "ties", "losses")
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True,
                    colalign=("left", "left", *["right"] * 5))  # fmt: skip


def format_interval(interval: Interval | None) -> str:
    """Format an interval for tables, or return "-" for None."""
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _utc(time: datetime) -> datetime:
    """Return a stored time in UTC. SQLite stores times in UTC without a time zone."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _bounds(interval: Interval | None) -> tuple[object, object]:
    return ("", "") if interval is None else interval


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()

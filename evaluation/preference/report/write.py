"""Implements ``lightning preference report``."""

import base64
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import func, select

from evaluation.preference.open import open_study
from evaluation.preference.questions import QUESTIONS
from evaluation.preference.report.figure import draw_figure
from evaluation.preference.report.summary import Summary, summarize
from evaluation.preference.report.tables import csv_files, format_interval, rates_table
from evaluation.preference.report.votes import Answer, read_answers
from evaluation.preference.settings import Preference
from evaluation.preference.storage import tables
from evaluation.preference.storage.database import database_errors
from evaluation.preference.storage.store import Store
from evaluation.subjects.image_cache import fingerprint
from evaluation.tracking import log_results
from pocketdit.config.load import Loaded
from pocketdit.counts import counted
from pocketdit.errors import RunError
from pocketdit.files import write_atomically

PAGE, FIGURE = "report.html", "figure.png"
_FOLDER = "reports"


@dataclass(frozen=True)
class Participation:
    """How many raters take part, have started, and have finished.

    Attributes:
        known: Raters who have been invited or have started.
        started: Raters with at least one answer.
        finished: Raters who have answered everything.
    """

    known: int
    started: int
    finished: int


def write_report(loaded: Loaded[Preference]) -> Path:
    """Write the report of a study in its current state, and log it to MLflow.

    Returns:
        The folder of the report. It is named after a hash of the answers, so new answers lead to a new folder.

    Raises:
        RunError: There are no answers yet, all raters have been excluded, or the study has not been created.
    """
    start, settings = time.time(), loaded.config
    store = open_study(loaded)
    with database_errors(store.engine):
        answers, participation, made = _read(store)
    store.engine.dispose()
    if not answers:
        raise RunError(f"the study {settings.preference} has no answers yet; serve it, and let raters answer first")
    summary = summarize(settings, answers)
    if not summary.votes:
        raise RunError(
            f"the study {settings.preference} has no votes, because no rater has both answered a pair and passed the "
            f"attention checks; checks.allowed_failures is {settings.checks.allowed_failures}"
        )
    digest = fingerprint([[*map(str, answers)], settings.checks.allowed_failures])[:8]
    folder = settings.folder / _FOLDER / digest
    figure = draw_figure(settings, summary)
    write_atomically(folder / FIGURE, figure)
    files = csv_files(summary, answers)
    for name, text in files.items():
        write_atomically(folder / name, text)
    write_atomically(folder / PAGE, _page(settings, summary, participation, figure, made))
    print(rates_table(summary))
    print(f"\n{exclusions(settings, summary)}")
    log_results(
        folder,
        settings.tracking,
        name=f"{settings.preference}: preference study",
        tags={"kind": "preference"},
        made=made,
        metrics=metrics(summary, participation),
        files=(PAGE, FIGURE, *files),
        start=start,
    )
    print(f"report   {folder / PAGE}")
    return folder


def _read(store: Store) -> tuple[list[Answer], Participation, dict[str, Any]]:
    """Return the answers, the participation, and the provenance of the images, all read in one transaction."""
    own, rater, answer = tables.comparison, tables.rater, tables.answer
    with store.reading() as connection:
        study = connection.execute(select(tables.study).where(tables.study.c.name == store.name)).one()
        answers = read_answers(connection, study.id)
        of_study = rater.c.study == study.id
        known = connection.execute(select(func.count()).where(of_study)).scalar_one()
        expected = select(rater.c.number, func.count()).join(own, own.c.rater == rater.c.id).where(of_study)
        comparisons = {number: count for number, count in connection.execute(expected.group_by(rater.c.number))}
        given = select(rater.c.number, func.count()).join(own, own.c.rater == rater.c.id).join(answer).where(of_study)
        numbers = {number: count for number, count in connection.execute(given.group_by(rater.c.number))}
    questions = len(study.design["questions"])
    finished = sum(number == questions * comparisons[name] for name, number in numbers.items())
    return answers, Participation(known, len(numbers), finished), study.made


def exclusions(settings: Preference, summary: Summary) -> str:
    """Return a sentence about the raters who were excluded."""
    failed = sum(outcome.failures for outcome in summary.attention.values())
    checks = sum(outcome.checks for outcome in summary.attention.values())
    return (
        f"Excluded for failing more than {counted(settings.checks.allowed_failures, 'attention check')}: "
        f"{len(summary.excluded)} of {counted(len(summary.attention), 'rater')}. In all, {failed} of "
        f"{counted(checks, 'attention check')} were failed."
    )


def metrics(summary: Summary, participation: Participation) -> dict[str, float]:
    """Return the results as metrics for MLflow."""
    values: dict[str, float] = {
        "raters/started": participation.started,
        "raters/finished": participation.finished,
        "raters/excluded": len(summary.excluded),
    }
    for (question, pair), rate in summary.win_rates.items():
        key = f"{question}/{' vs '.join(map(_slug, pair))}"
        values[f"{key}/win_rate"] = rate.rate
        if rate.interval is not None:
            values[f"{key}/low_95"], values[f"{key}/high_95"] = rate.interval
    for question, strengths in summary.scores.items():
        for subject, strength in (strengths or {}).items():
            values[f"{question}/bradley_terry/{_slug(subject)}"] = strength.value
    for question, alpha in summary.agreement.items():
        if alpha is not None:
            values[f"{question}/alpha"] = alpha
    return values


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _page(
    settings: Preference, summary: Summary, participation: Participation, figure: bytes, made: dict[str, Any]
) -> str:
    environment = Environment(
        loader=PackageLoader("evaluation.preference.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.jinja").render(
        settings=settings,
        summary=summary,
        participation=participation,
        exclusions=exclusions(settings, summary),
        questions={name: QUESTIONS[name].text for name in settings.questions},
        figure=f"data:image/png;base64,{base64.b64encode(figure).decode()}",
        interval=format_interval,
        made=json.dumps(made, indent=1),
    )

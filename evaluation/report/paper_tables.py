"""The paper's tables as text, with additional rows for our results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from evaluation.contract import Result
from evaluation.report.paper_scores import COMPBENCH, DPG, TABLES, Table
from evaluation.report.results import FILE_NAME, load
from pocketdit.errors import UserError

PAPER = "paper"


@dataclass(frozen=True)
class Row:
    """A row of our scores.

    Attributes:
        name: Names of the metrics, with their judges.
        values: The scores, in the order of the table's columns; NaN for scores that were not measured.
        images: The distinct numbers of images from which the scores were computed, in ascending order.
    """

    name: str
    values: tuple[float, ...]
    images: tuple[int, ...]


def our_rows(table: Table, results: Sequence[Result]) -> list[Row]:
    """Return the rows of our scores; none if the table does not cover any of the metrics.

    Results of the same benchmark from different judges form separate rows, except for T2I-CompBench, whose columns have
    different judges by design. A second value for the same column, for example from DPG-Bench's other mode or from
    another detector, starts another row.
    """
    covered = [result for result in results if _is_covered(table, result)]
    if table.metric and table is not COMPBENCH:
        covered.sort(key=lambda result: result.metric)
    groups: list[list[Result]] = []
    for result in covered:
        group = next((group for group in groups if _fits(table, group, result)), None)
        if group is None:
            groups.append(group := [])
        group.append(result)
    return [_row(table, group) for group in groups]


def _is_covered(table: Table, result: Result) -> bool:
    if table.metric:
        return base_name(result) == table.metric
    return "overall" in result.scores and _in_summary(table, result)


def _fits(table: Table, group: Sequence[Result], result: Result) -> bool:
    """Return whether a result fits into the row of a group, whose values must not differ in the result's columns."""
    if table.metric and table is not COMPBENCH and group[0].metric != result.metric:
        return False
    known = _values(table, group)
    return all(known.get(name, value) == value for name, value in _values(table, [result]).items())


def _values(table: Table, group: Sequence[Result]) -> dict[str, float]:
    if table.metric:
        return {name: score.value for result in group for name, score in result.scores.items()}
    return {base_name(result): result.scores["overall"].value for result in group}


def _row(table: Table, group: Sequence[Result]) -> Row:
    name = _joint_name(group) if table.metric else ", ".join(result.metric for result in group)
    values = _values(table, group)
    scores = [score for result in group for key, score in result.scores.items() if table.metric or key == "overall"]
    columns = tuple(values.get(column, float("nan")) for column in table.columns.values())
    return Row(name, columns, tuple(sorted({score.samples for score in scores})))


def _joint_name(results: Sequence[Result]) -> str:
    """Return the benchmark's name with the judges of all results in parentheses."""
    lists = [result.metric.partition(" (")[2].removesuffix(")") for result in results]
    judges = dict.fromkeys(judge for names in lists if names for judge in names.split(", "))
    return f"{base_name(results[0])} ({', '.join(judges)})" if judges else base_name(results[0])


def _in_summary(table: Table, result: Result) -> bool:
    """Return whether a result belongs in the summary. The paper's CLIP scores use COCO's captions."""
    name = base_name(result)
    if name == "clip-score":
        return "coco" in str(result.protocol.get("prompts", "")).lower()
    return name in table.columns.values()


def base_name(result: Result) -> str:
    """Return the benchmark's name without the judges."""
    return result.metric.partition(" (")[0]


def render_table(table: Table, measured: Mapping[str, tuple[float, ...]]) -> str:
    """Render a table as text, with the paper's rows followed by the ``measured`` rows."""
    digits = 1 if table is DPG else 3
    labeled = [(name, PAPER, values) for name, values in table.rows.items()]
    labeled += [(name, "measured", values) for name, values in measured.items()]
    text = tabulate(
        [[name, source, *(_format(value, digits) for value in values)] for name, source, values in labeled],
        headers=["model", "source", *table.columns],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", "left", *["right"] * len(table.columns)),
    )
    return f"{table.title}\n{text}"


def _format(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def render_tables(out: Path) -> str:
    """Render the paper's tables with all results below ``out``, with one numbered row per results folder and judge.

    Raises:
        UserError: There are no results.
    """
    reports = {path.parent.relative_to(out): load(path) for path in sorted(out.rglob(FILE_NAME))}
    if not reports:
        raise UserError(f"{out}: contains no evaluation results")
    texts, notes = [], ["paper: printed in arXiv 2601.08303, not measured here"]
    for table in TABLES:
        rows = {}
        for folder, report in reports.items():
            for row in our_rows(table, report.results):
                rows[f"[{len(notes)}] {report.subject}"] = row.values
                images = " to ".join(map(str, dict.fromkeys((row.images[0], row.images[-1]))))
                notes.append(f"[{len(notes)}] {row.name}, {images} images, from {folder}")
        texts.append(render_table(table, rows))
    return "\n\n".join([*texts, "\n".join(notes)])

"""The paper's tables as text, with additional rows for our results."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from evaluation.contract import Result
from evaluation.report.paper_scores import COMPBENCH, DPG, TABLES, Table
from evaluation.report.results import FILE_NAME, load
from pocketdit.errors import UserError

PAPER = "paper"


def our_rows(table: Table, results: Sequence[Result]) -> dict[str, tuple[float, ...]]:
    """Return a row of our scores for each metric name, in the order of the table's columns.

    The result is empty if the table does not cover any of the metrics. Results of the same benchmark from different
    judges form separate rows, except for T2I-CompBench, whose columns have different judges by design.
    """
    if not table.metric:
        parts = [result for result in results if "overall" in result.scores and _in_summary(table, result)]
        if not parts:
            return {}
        values = {base_name(result): result.scores["overall"].value for result in parts}
        return {", ".join(result.metric for result in parts): _select(table, values)}
    parts = [result for result in results if base_name(result) == table.metric]
    if table is COMPBENCH and parts:
        groups = {_joint_name(parts): parts}
    else:
        groups = {name: [part for part in parts if part.metric == name] for name in sorted({p.metric for p in parts})}
    return {
        name: _select(table, {key: score.value for part in group for key, score in part.scores.items()})
        for name, group in groups.items()
    }


def _joint_name(results: Sequence[Result]) -> str:
    """Return the benchmark's name with the judges of all results in parentheses."""
    lists = [result.metric.partition(" (")[2].removesuffix(")") for result in results]
    judges = dict.fromkeys(judge for names in lists if names for judge in names.split(", "))
    return f"{base_name(results[0])} ({', '.join(judges)})" if judges else base_name(results[0])


def _select(table: Table, scores: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(scores.get(name, float("nan")) for name in table.columns.values())


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
    reports = {path.parent.name: load(path) for path in sorted(out.rglob(FILE_NAME))}
    if not reports:
        raise UserError(f"{out}: contains no evaluation results")
    texts, notes = [], ["paper: printed in arXiv 2601.08303, not measured here"]
    for table in TABLES:
        rows = {}
        for folder, report in reports.items():
            for name, row in our_rows(table, report.results).items():
                rows[f"[{len(notes)}] {report.subject}"] = row
                counts = sorted({s.samples for r in report.results for s in r.scores.values() if r.metric in name})
                images = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else "".join(map(str, counts))
                notes.append(f"[{len(notes)}] {name}, {images or 'few'} images, from {folder}")
        texts.append(render_table(table, rows))
    return "\n\n".join([*texts, "\n".join(notes)])

"""Reads what the report of a recipe shows from the records and results of its tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.report import results
from evaluation.report.paper_scores import TABLES, Table
from evaluation.report.paper_tables import our_rows
from evaluation.run_scores import cost_columns
from evaluation.subjects.run import Run
from pocketdit.artifacts.run_folder import RunFolder, load_experiment
from pocketdit.commands.recipe.execution import record_file
from pocketdit.commands.recipe.preparation import load_task
from pocketdit.commands.recipe.records import Record, load_record
from pocketdit.commands.recipe.settings import Evaluate, Recipe, Train
from pocketdit.config.experiment import Experiment, kind_of
from pocketdit.tracking.journal import read_metrics

MAX_FRAMES = 12  # maximum number of previews of a run in the page


@dataclass(frozen=True)
class Preview:
    """A preview of a run at a step."""

    step: int
    path: Path


@dataclass(frozen=True)
class TrainedRun:
    """A training task that has finished.

    Attributes:
        task: Name of the task.
        folder: The run.
        previews: Previews in the order of their steps.
        curves: Losses as (step, value) pairs by name.
    """

    task: str
    folder: RunFolder
    previews: Sequence[Preview]
    curves: Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that has finished.

    Attributes:
        task: Name of the task.
        trained: Name of the task that trained the network.
        width: Width that was evaluated.
        steps: Number of sampling steps.
        report: The scores.
        costs: Parameters, size and predicted latency of the width (see ``cost_columns``).
    """

    task: str
    trained: str
    width: float
    steps: int
    report: results.Report
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Content:
    """The results of a recipe.

    Attributes:
        records: What each finished task has read and written, by task.
        runs: The finished runs.
        evaluated: The finished evaluations.
    """

    records: Mapping[str, Record]
    runs: Sequence[TrainedRun]
    evaluated: Sequence[Evaluated]


def read_content(recipe: Recipe) -> Content:
    """Read the results of a recipe's finished tasks.

    Raises:
        UserError: A result cannot be read.
    """
    found = {name: load_record(record_file(recipe, name)) for name in recipe.order()}
    records = {name: record for name, record in found.items() if record is not None}
    runs = [read_run(name, record) for name, record in records.items() if isinstance(recipe.tasks[name], Train)]
    evaluated = [
        read_evaluation(name, task, records)
        for name in records
        if isinstance(task := recipe.tasks[name], Evaluate) and task.run in records
    ]
    return Content(records, runs, evaluated)


def read_run(task: str, record: Record) -> TrainedRun:
    """Read the previews and losses of a run."""
    folder = RunFolder(Path(record.output.folder))
    previews = [
        Preview(int(path.stem.rpartition("-")[2]), path)
        for path in sorted(folder.samples.glob("step-*.png"))
        if path.stem.rpartition("-")[2].isdigit()
    ]
    metrics = read_metrics(folder.metrics) if folder.metrics.is_file() else {}
    curves = {name: points for name, points in metrics.items() if "/loss" in f"/{name}" and len(points) > 1}
    return TrainedRun(task, folder, evenly(previews, MAX_FRAMES), curves)


def read_evaluation(name: str, task: Evaluate, records: Mapping[str, Record]) -> Evaluated:
    """Read the scores of an evaluation, and compute the costs of the network that was evaluated."""
    record, settings = records[name], load_task(task).config
    report = results.load(Path(record.output.folder, record.output.files[0]).parent)
    subject = Run(records[task.run].output.folder, settings.width)
    steps = settings.steps or subject.sampling.steps
    return Evaluated(name, task.run, settings.width, steps, report, cost_columns(subject))


def evenly(previews: Sequence[Preview], count: int) -> list[Preview]:
    """Return at most ``count`` evenly spaced previews, including the first and the last one."""
    if len(previews) <= count:
        return list(previews)
    last = len(previews) - 1
    return [previews[round(index * last / (count - 1))] for index in range(count)]


def measured_tables(content: Content) -> list[tuple[Table, list[tuple[str, str, tuple[float, ...]]]]]:
    """Return the paper's tables of scores with our rows: task, judges, and values in the order of the columns.

    Tables without a row are left out.
    """
    tables = []
    for table in TABLES:
        rows = [
            (label(item), row.name, row.values)
            for item in content.evaluated
            for row in our_rows(table, item.report.results)
        ]
        if rows:
            tables.append((table, rows))
    return tables


def label(item: Evaluated) -> str:
    """Return a name for the network and the sampling steps of an evaluation."""
    return f"{item.trained} {item.width:g}x, {item.steps} steps"


def not_measured(recipe: Recipe, content: Content) -> list[str]:
    """Return the paper's tables and figures that the recipe does not reproduce, and the unfinished tasks."""
    shown = {table.title for table, _ in measured_tables(content)}
    missing = [f"{table.title}: no task measures it" for table in TABLES if table.title not in shown]
    missing += [f"task {name} has not finished" for name in recipe.order() if name not in content.records]
    if not has_standalone(content):
        missing.append(
            "the paper's main Table 1 (standalone versus elastic training): no task trains standalone networks"
        )
    return [
        *missing,
        "the paper's Figure 3 (the ladder of architectures A to D): no task trains its rows",
        "the paper's Table 2, throughput on an A100 and latency on an iPhone: latencies here are predictions",
        "the paper's Figure 7 (human preferences): see lightning preference",
    ]


def has_standalone(content: Content) -> bool:
    """Return whether a run has trained a network of a single width from scratch."""
    for run in content.runs:
        if kind_of(run.folder.config) is Experiment:
            experiment = load_experiment(run.folder)
            if len(experiment.backbone.widths) == 1 and not experiment.parents:
                return True
    return False

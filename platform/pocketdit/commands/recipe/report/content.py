"""Reads what the report of a recipe shows from the records and results of its tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.contract import ImageSet
from evaluation.report import results
from evaluation.run_scores import cost_columns
from evaluation.subjects.image_cache import stored_images
from evaluation.subjects.run import Run
from pocketdit.artifacts.run_folder import RunFolder, load_experiment
from pocketdit.backbones.spec import UNetSpec
from pocketdit.commands.recipe.execution import record_file
from pocketdit.commands.recipe.preparation import load_task
from pocketdit.commands.recipe.records import Record, load_record
from pocketdit.commands.recipe.settings import Evaluate, Recipe, Train
from pocketdit.config.experiment import Experiment, kind_of
from pocketdit.config.load import load
from pocketdit.tracking.journal import read_metrics

MAX_FRAMES = 12  # maximum number of previews of a run in the page
IMAGES = "images"  # where an evaluation stores its images, below its folder


@dataclass(frozen=True)
class Preview:
    """A preview of a run at a step."""

    step: int
    path: Path


@dataclass(frozen=True)
class Network:
    """A sub-network and its costs.

    Attributes:
        architecture: "DiT" or "U-Net".
        parameters: Millions of parameters.
        size: Megabytes of the palettes of a quantized network, and otherwise of its weights in fp16.
        latency: Predicted milliseconds of one evaluation on the calibrated device, or None if it cannot be predicted.
    """

    architecture: str
    parameters: float
    size: float
    latency: float | None


@dataclass(frozen=True)
class TrainedRun:
    """A training task that has finished.

    Attributes:
        task: Name of the task.
        folder: The run.
        widths: Widths of the run's network; empty for a tiny decoder.
        previews: Previews in the order of their steps.
        metrics: What the run has logged, as (step, value) pairs of each metric.
    """

    task: str
    folder: RunFolder
    widths: Sequence[float]
    previews: Sequence[Preview]
    metrics: Mapping[str, Sequence[tuple[int, float]]]

    @property
    def curves(self) -> dict[str, Sequence[tuple[int, float]]]:
        """The losses that were logged more than once."""
        return {name: points for name, points in self.metrics.items() if "/loss" in f"/{name}" and len(points) > 1}

    def last(self, metric: str) -> float | None:
        """Return the last value of a metric, or None if it was not logged."""
        points = self.metrics.get(metric)
        return points[-1][1] if points else None


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that has finished.

    Attributes:
        task: Name of the task.
        trained: Name of the task that trained the network.
        width: Width that was evaluated.
        steps: Number of sampling steps.
        passes: Evaluations of the network in each step: 2 with classifier-free guidance, otherwise 1.
        report: The scores.
        network: The network and its costs.
        folder: The folder of the evaluation, with its images.
    """

    task: str
    trained: str
    width: float
    steps: int
    passes: int
    report: results.Report
    network: Network
    folder: Path

    @property
    def label(self) -> str:
        """The network and the number of sampling steps."""
        return f"{self.trained} {self.width:g}x, {self.steps} steps"

    def image_sets(self) -> list[ImageSet]:
        """Return the images that were evaluated.

        Raises:
            UserError: A manifest is damaged.
        """
        return stored_images(self.folder / IMAGES)


@dataclass(frozen=True)
class Content:
    """The results of a recipe.

    Attributes:
        recipe: The recipe.
        records: What each finished task has read and written, by task.
        runs: The finished runs.
        networks: The networks that were evaluated or that the paper's forms show, by task and width.
        evaluated: The finished evaluations.
    """

    recipe: Recipe
    records: Mapping[str, Record]
    runs: Sequence[TrainedRun]
    networks: Mapping[tuple[str, float], Network]
    evaluated: Sequence[Evaluated]

    def finished(self, tasks: Sequence[str]) -> list[TrainedRun]:
        """Return the runs of those tasks that have finished, in the order of the tasks."""
        runs = {run.task: run for run in self.runs}
        return [runs[task] for task in tasks if task in runs]

    def evaluations(self, tasks: Sequence[str]) -> list[Evaluated]:
        """Return those evaluations that have finished, in the order of the tasks."""
        evaluated = {item.task: item for item in self.evaluated}
        return [evaluated[task] for task in tasks if task in evaluated]


def read_contents(recipe: Recipe) -> list[Content]:
    """Read the results of a recipe, and of the recipes that its report also shows.

    Raises:
        UserError: A result or a recipe cannot be read.
    """
    others = [replace(load(file, [], Recipe).config, runs=recipe.runs) for file in recipe.report.recipes]
    return [read_content(recipe), *(content for other in others if (content := read_content(other)).records)]


def read_content(recipe: Recipe) -> Content:
    """Read the results of a recipe's finished tasks.

    Raises:
        UserError: A result cannot be read.
    """
    found = {name: load_record(record_file(recipe, name)) for name in recipe.order()}
    records = {name: record for name, record in found.items() if record is not None}
    runs = [read_run(name, record) for name, record in records.items() if isinstance(recipe.tasks[name], Train)]
    evaluations = {
        name: task for name in records if isinstance(task := recipe.tasks[name], Evaluate) and task.run in records
    }
    subjects = {name: evaluated_run(task, records) for name, task in evaluations.items()}
    shown = {*recipe.report.standalone, *recipe.report.elastic, *recipe.report.ladder}
    folders = {(run.task, width): run.folder for run in runs if run.task in shown for width in run.widths}
    folders |= {(evaluations[name].run, subject.width): subject.folder for name, subject in subjects.items()}
    networks = {key: read_network(Run(str(folder.path), key[1])) for key, folder in folders.items()}
    evaluated = [
        read_evaluation(name, evaluations[name].run, records[name], subject, networks)
        for name, subject in subjects.items()
    ]
    return Content(recipe, records, runs, networks, evaluated)


def read_run(task: str, record: Record) -> TrainedRun:
    """Read the previews and metrics of a run."""
    folder = RunFolder(Path(record.output.folder))
    previews = [
        Preview(int(path.stem.rpartition("-")[2]), path)
        for path in sorted(folder.samples.glob("step-*.png"))
        if path.stem.rpartition("-")[2].isdigit()
    ]
    metrics = read_metrics(folder.metrics) if folder.metrics.is_file() else {}
    widths = load_experiment(folder).backbone.widths if kind_of(folder.config) is Experiment else ()
    return TrainedRun(task, folder, widths, evenly(previews, MAX_FRAMES), metrics)


def evaluated_run(task: Evaluate, records: Mapping[str, Record]) -> Run:
    """Return the subject of an evaluation, with the sampling settings of the evaluation."""
    settings = load_task(task).config
    return Run(records[task.run].output.folder, settings.width, settings.steps, settings.guidance)


def read_evaluation(
    name: str, trained: str, record: Record, subject: Run, networks: Mapping[tuple[str, float], Network]
) -> Evaluated:
    """Read the scores of an evaluation."""
    folder = Path(record.output.folder)
    report = results.load((folder / record.output.files[0]).parent)
    passes = 1 if subject.sampling.guidance == 1 else 2
    network = networks[trained, subject.width]
    return Evaluated(name, trained, subject.width, subject.sampling.steps, passes, report, network, folder)


def read_network(subject: Run) -> Network:
    """Return the costs of a run's network at one width."""
    costs, width = cost_columns(subject), f"{subject.width:g}x"
    architecture = "U-Net" if isinstance(subject.experiment.backbone, UNetSpec) else "DiT"
    latency = costs.get(f"predicted ms per step {width}")
    return Network(architecture, costs[f"parameters M {width}"], costs[f"size MB {width}"], latency)


def evenly(previews: Sequence[Preview], count: int) -> list[Preview]:
    """Return at most ``count`` evenly spaced previews, including the first and the last one."""
    if len(previews) <= count:
        return list(previews)
    last = len(previews) - 1
    return [previews[round(index * last / (count - 1))] for index in range(count)]

"""Arranges the results of a recipe in the form of the paper's tables and figures (arXiv 2601.08303)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.contract import Result
from evaluation.report.paper_scores import SUMMARY, TABLES
from evaluation.report.paper_tables import base_name, our_rows
from pocketdit.commands.recipe.report.content import Content, Evaluated, Network, TrainedRun

PERCENT_FROM = 2.0  # scores above this are percentages, which the paper prints with one decimal
NONE = "-"
FEW_STEP_PROMPTS = 4  # images of each network in Figure 8
TABLE_1 = "Standalone and elastic training (the paper's Table 1)"
MEASURED_AS = "measured as"
TEXT_COLUMNS = ("training", "arch.", "metric", MEASURED_AS)  # columns that are aligned to the left
VALIDATION_LOSS = "validation/loss/width_{:g}"
PEAK_MEMORY = "speed/peak_memory_gb"


@dataclass(frozen=True)
class Printed:
    """A table as the page shows it.

    Attributes:
        title: Its heading.
        columns: Headings of the columns. The first column names the network.
        rows: The cells of each row.
        note: What the reader must know to read the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Rung:
    """An architecture of the ladder in Figure 3.

    Attributes:
        name: The task that trained it.
        network: The network and its costs.
        loss: The last validation loss.
    """

    name: str
    network: Network
    loss: float


@dataclass(frozen=True)
class FewStepImages:
    """The images of one network in Figure 8.

    Attributes:
        label: The network and the number of sampling steps.
        corner: DPG-Bench and GenEval, as in the corners of the figure's images.
        images: Prompts and images.
    """

    label: str
    corner: str
    images: tuple[tuple[str, Path], ...]


def tables(content: Content) -> list[Printed]:
    """Return the tables that have rows: the paper's main Tables 1 and 2, supplementary Tables 1 to 4, other scores."""
    found = [training_table(content), *score_tables(content), generation_table(content), other_scores(content)]
    return [table for table in found if table.rows]


def training_table(content: Content) -> Printed:
    """Return the form of the paper's Table 1, standalone and elastic training."""
    forms = content.recipe.report
    rows = [
        training_row(content, training, run, width)
        for training, tasks in (("standalone", forms.standalone), ("elastic", forms.elastic))
        for run in content.finished(tasks)
        for width in run.widths
    ]
    columns = (
        "network", "training", "parameters (M)", "validation loss", "Fréchet distance", "training footprint (GB)",
        MEASURED_AS,
    )  # fmt: skip
    note = "The footprint is the peak memory of the whole process. It is that of all widths of a supernet together."
    return Printed(TABLE_1, columns, tuple(rows), note)


def training_row(content: Content, training: str, run: TrainedRun, width: float) -> tuple[str, ...]:
    """Return the row of a run at one width. The distance is that of any evaluation of this network."""
    distances = [
        result
        for item in content.evaluated
        if (item.trained, item.width) == (run.task, width)
        for result in item.report.results
        if base_name(result) == "fd"
    ]
    parameters = content.networks[run.task, width].parameters
    return (
        f"{run.task} {width:g}x", training, f"{parameters:.3g}",
        decimals(run.last(VALIDATION_LOSS.format(width)), 4),
        decimals(distances[0].scores["overall"].value if distances else None, 4),
        decimals(run.last(PEAK_MEMORY), 2), distances[0].metric if distances else "",
    )  # fmt: skip


def score_tables(content: Content) -> list[Printed]:
    """Return the paper's tables of scores with our rows. Table 2 also has the costs of each network."""
    costs = ("arch.", "parameters (M)", "images/s", "predicted latency (ms)")
    found = []
    for table in TABLES:
        rows = [
            (item.label, *(cost_cells(item) if table is SUMMARY else ()), *map(score, row.values), row.name)
            for item in content.evaluated
            for row in our_rows(table, item.report.results)
        ]
        columns = ("network", *(costs if table is SUMMARY else ()), *table.columns, MEASURED_AS)
        note = "Latency is predicted for one evaluation of the network on the iPhone 16 Pro Max, and not measured."
        found.append(Printed(table.title, columns, tuple(rows), note if table is SUMMARY else ""))
    return found


def cost_cells(item: Evaluated) -> tuple[str, ...]:
    """Return architecture, parameters, measured throughput and predicted latency of an evaluated network."""
    throughput = [result.scores["overall"].value for result in item.report.results if base_name(result) == "throughput"]
    network = item.network
    return (
        network.architecture, f"{network.parameters:.3g}", decimals(throughput[0] if throughput else None, 2),
        decimals(network.latency, 3),
    )  # fmt: skip


def generation_table(content: Content) -> Printed:
    """Return the form of the paper's supplementary Table 1, latency and generation time."""
    rows = [
        (
            item.label, f"{item.network.parameters:.3g}", f"{item.network.size:.3g}", decimals(item.network.latency, 3),
            decimals(None if item.network.latency is None else item.network.latency * item.steps * item.passes, 2),
        )
        for item in content.evaluated
    ]  # fmt: skip
    columns = ("network", "parameters (M)", "size (MB)", "predicted latency of one evaluation (ms)",
               "predicted latency of all steps (ms)")  # fmt: skip
    note = (
        "Sizes are those of palettes for quantized networks, and otherwise of weights in fp16. Latencies are predicted "
        "for the iPhone 16 Pro Max, and not measured. Text encoders and decoder are not included."
    )
    return Printed("Latency and generation time (the paper's supplementary Table 1)", columns, tuple(rows), note)


def other_scores(content: Content) -> Printed:
    """Return the main scores of the metrics that none of the paper's tables covers."""
    rows = [
        (item.label, result.metric, decimals(result.scores["overall"].value, 4), str(result.scores["overall"].samples))
        for item in content.evaluated
        for result in item.report.results
        if "overall" in result.scores and not is_in_paper(result)
    ]
    return Printed("Other scores", ("network", "metric", "score", "samples"), tuple(rows))


def is_in_paper(result: Result) -> bool:
    """Return whether one of the paper's tables covers a result."""
    return base_name(result) == "throughput" or any(our_rows(table, [result]) for table in TABLES)


def ladder(content: Content) -> list[Rung]:
    """Return the architectures of Figure 3 that have been trained and validated."""
    rungs = []
    for run in content.finished(content.recipe.report.ladder):
        width = max(run.widths)
        loss = run.last(VALIDATION_LOSS.format(width))
        if loss is not None:
            rungs.append(Rung(run.task, content.networks[run.task, width], loss))
    return rungs


def few_step_rows(content: Content) -> list[list[FewStepImages]]:
    """Return the rows of Figure 8: the networks before and after step distillation, with the same prompts.

    Raises:
        UserError: The images of an evaluation cannot be read.
    """
    forms = content.recipe.report
    rows = [content.evaluations(tasks) for tasks in (forms.base, forms.few_step)]
    return [[few_step_images(item) for item in row] for row in rows if row]


def few_step_images(item: Evaluated) -> FewStepImages:
    """Return evenly spaced images of the evaluation's largest prompt set, and the scores for their corner."""
    image_sets = item.image_sets()
    images: list[tuple[str, Path]] = []
    if image_sets:
        largest = max(image_sets, key=lambda image_set: len(image_set.prompts.prompts))
        prompts = largest.prompts.prompts
        count = min(FEW_STEP_PROMPTS, len(prompts))
        chosen = [prompts[index * len(prompts) // count] for index in range(count)]
        images = [(prompt.text, largest.images[prompt.id][0]) for prompt in chosen]
    scores = [main_score(item.report.results, name) for name in ("dpg", "geneval")]
    corner = " / ".join(NONE if value is None else score(value) for value in scores)
    return FewStepImages(item.label, corner, tuple(images))


def main_score(found: Sequence[Result], name: str) -> float | None:
    """Return the main score of the first result of a benchmark, or None if it was not measured."""
    return next((result.scores["overall"].value for result in found if base_name(result) == name), None)


def score(value: float) -> str:
    """Format a score as the paper does, or return "-" if it was not measured."""
    if math.isnan(value):
        return NONE
    return f"{value:.1f}" if abs(value) >= PERCENT_FROM else f"{value:.3f}"


def decimals(value: float | None, digits: int) -> str:
    """Format a value with a number of decimals, or return "-" if it is unknown."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"

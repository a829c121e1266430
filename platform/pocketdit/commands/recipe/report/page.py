"""The HTML page of a recipe's report. It contains its images, so that it can be sent and shown anywhere."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from evaluation.report.paper_scores import TABLES
from pocketdit.commands.recipe.duration import duration
from pocketdit.commands.recipe.report.charts import ladder_chart, loss_chart, quality_chart
from pocketdit.commands.recipe.report.content import Content, read_contents
from pocketdit.commands.recipe.report.paper_forms import (
    TABLE_1,
    TEXT_COLUMNS,
    FewStepImages,
    Printed,
    Rung,
    few_step_rows,
    ladder,
    tables,
)
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.files import write_atomically
from pocketdit.tracking.git import revision

FILE_NAME = "report.html"
QUALITY = 85  # WebP quality of the images, from 0 to 100
MAX_WIDTH = 1200  # pixels
NEVER_MEASURED = (
    "the paper's Table 2, throughput on an A100 and latency on an iPhone: latencies here are predictions",
    "the paper's Figure 7 (human preferences): see lightning preference",
)
SECTIONS = (
    ("scores", "Scores"),
    ("few-steps", "Before and after step distillation"),
    ("ladder", "Architectures"),
    ("costs", "Quality, latency and size"),
    ("samples", "Samples"),
    ("curves", "Training curves"),
    ("lineage", "Tasks and lineage"),
    ("missing", "Not measured"),
)


def write_report(recipe: Recipe) -> Path:
    """Write the report of a recipe's finished tasks to its folder.

    Raises:
        UserError: A result cannot be read.
    """
    environment = Environment(
        loader=PackageLoader("pocketdit.commands.recipe.report"),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    )  # fmt: skip
    page = environment.get_template("recipe.html.jinja").render(values(recipe, read_contents(recipe)))
    return write_atomically(recipe.folder / FILE_NAME, page)


def values(recipe: Recipe, contents: Sequence[Content]) -> dict[str, Any]:
    """Return the values of the template.

    Args:
        recipe: The recipe.
        contents: Its results, followed by those of the other recipes that the report shows.
    """
    shown = [table for content in contents for table in tables(content)]
    few_steps = [row for content in contents for row in few_step_rows(content)]
    ladders = [rungs for content in contents if (rungs := ladder(content))]
    return {
        "recipe": recipe,
        "sections": SECTIONS,
        "provenance": provenance(contents),
        "difference": difference(contents),
        "tables": shown,
        "text_columns": TEXT_COLUMNS,
        "few_steps": [
            [
                {
                    "label": cell.label,
                    "corner": cell.corner,
                    "images": [(text, data_url(path)) for text, path in cell.images],
                }
                for cell in row
            ]
            for row in few_steps
        ],
        "ladders": [Markup(ladder_chart(rungs)) for rungs in ladders],
        "quality_charts": [Markup(chart) for content in contents for chart in quality_charts(content)],
        "previews": [
            {"task": run.task, "frames": [{"step": item.step, "url": data_url(item.path)} for item in run.previews]}
            for content in contents
            for run in content.runs
            if run.previews
        ],
        "loss_charts": [Markup(loss_chart(run)) for content in contents for run in content.runs if run.curves],
        "recipes": [(content.recipe.recipe, task_rows(content)) for content in contents],
        "missing": [*missing_forms(shown, few_steps, ladders), *unfinished(contents), *NEVER_MEASURED],
    }


def provenance(contents: Sequence[Content]) -> str:
    """Return the revision and the time of the latest result."""
    code = revision(Path())
    finished = max(
        (record.finished for content in contents for record in content.records.values()), default="nothing has finished"
    )
    return f"Latest result: {finished}. Revision: {'unknown' if code is None else code['commit']}."


def difference(contents: Sequence[Content]) -> str:
    """Return how the evaluations differ from the paper's."""
    judges = sorted(
        {result.metric for content in contents for item in content.evaluated for result in item.report.results}
    )
    return (
        "the networks are trained on other data, at another size and for fewer steps. The names of the metrics contain "
        f"their judges: {', '.join(judges) or 'none'}."
    )


def quality_charts(content: Content) -> list[str]:
    """Return a chart for the main score of every metric of which higher values are better."""
    scores: dict[str, dict[str, float]] = {}
    for item in content.evaluated:
        for result in item.report.results:
            if "overall" in result.scores and result.higher_is_better:
                scores.setdefault(result.metric, {})[item.task] = result.scores["overall"].value
    return [quality_chart(content.evaluated, metric, by_task) for metric, by_task in scores.items()]


def task_rows(content: Content) -> list[list[str]]:
    """Return what each task needs, how long it took, when it finished, and where its result is."""
    rows = []
    for name, needed in content.recipe.graph().items():
        record = content.records.get(name)
        details = ["", "not finished", ""] if record is None else [
            duration(record.seconds), record.finished, record.output.folder,
        ]  # fmt: skip
        rows.append([name, ", ".join(dict.fromkeys(needed)), *details])
    return rows


def missing_forms(
    shown: Sequence[Printed], few_steps: Sequence[Sequence[FewStepImages]], ladders: Sequence[Sequence[Rung]]
) -> list[str]:
    """Return the paper's tables and figures that the page does not show."""
    titles = {table.title for table in shown}
    missing = [f"{table.title}: no task measures it" for table in TABLES if table.title not in titles]
    if not any(row[1] == "standalone" for table in shown if table.title == TABLE_1 for row in table.rows):
        missing.append("the paper's Table 1 (standalone and elastic training): no standalone network has been trained")
    if not ladders:
        missing.append("the paper's Figure 3 (the ladder of architectures): none of its networks has been trained")
    if len(few_steps) < 2:
        missing.append("the paper's Figure 8 (before and after step distillation): not both have been evaluated")
    return missing


def unfinished(contents: Sequence[Content]) -> list[str]:
    """Return the tasks that have not finished."""
    return [
        f"task {name} of recipe {content.recipe.recipe} has not finished"
        for content in contents
        for name in content.recipe.order()
        if name not in content.records
    ]


def data_url(path: Path) -> str:
    """Return a URL that contains an image, reduced to ``MAX_WIDTH``."""
    with Image.open(path) as image:
        image.thumbnail((MAX_WIDTH, 8 * MAX_WIDTH))
        encoded = io.BytesIO()
        image.convert("RGB").save(encoded, "webp", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"

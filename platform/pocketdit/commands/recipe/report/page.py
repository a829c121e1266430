"""The HTML page of a recipe's report. It contains its images, so that it can be sent and shown anywhere."""

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from pocketdit.commands.recipe.duration import duration
from pocketdit.commands.recipe.report.charts import loss_chart, quality_chart
from pocketdit.commands.recipe.report.content import Content, measured_tables, not_measured, read_content
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.files import write_atomically
from pocketdit.tracking.git import revision

FILE_NAME = "report.html"
QUALITY = 85  # WebP quality of the images, from 0 to 100
MAX_WIDTH = 1200  # pixels
PERCENT_FROM = 2.0  # scores above this are percentages, which the paper prints with one decimal
SECTIONS = (
    ("scores", "Scores"),
    ("costs", "Quality, latency and size"),
    ("samples", "Samples"),
    ("curves", "Training curves"),
    ("lineage", "Tasks and lineage"),
    ("missing", "Not measured"),
)
COSTS = ("parameters M", "size MB", "predicted ms per step")


def write_report(recipe: Recipe) -> Path:
    """Write the report of a recipe's finished tasks to its folder.

    Raises:
        UserError: A result cannot be read.
    """
    environment = Environment(
        loader=PackageLoader("pocketdit.commands.recipe.report"),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    )  # fmt: skip
    page = environment.get_template("recipe.html.jinja").render(values(recipe, read_content(recipe)))
    return write_atomically(recipe.folder / FILE_NAME, page)


def values(recipe: Recipe, content: Content) -> dict[str, Any]:
    """Return the values of the template."""
    return {
        "recipe": recipe,
        "sections": SECTIONS,
        "provenance": provenance(content),
        "difference": difference(content),
        "tables": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [(name, judges, [number(value) for value in scores]) for name, judges, scores in rows],
            }
            for table, rows in measured_tables(content)
        ],
        "quality_charts": [Markup(chart) for chart in quality_charts(content)],
        "costs": cost_rows(content),
        "previews": [
            {"task": run.task, "frames": [{"step": item.step, "url": data_url(item.path)} for item in run.previews]}
            for run in content.runs
            if run.previews
        ],
        "loss_charts": [Markup(loss_chart(run)) for run in content.runs if run.curves],
        "tasks": task_rows(recipe, content),
        "missing": not_measured(recipe, content),
    }


def provenance(content: Content) -> str:
    """Return the revision and the time of the latest result."""
    code = revision(Path())
    finished = max((record.finished for record in content.records.values()), default="nothing has finished")
    return f"Latest result: {finished}. Revision: {'unknown' if code is None else code['commit']}."


def difference(content: Content) -> str:
    """Return how the recipe's evaluations differ from the paper's."""
    judges = sorted({result.metric for item in content.evaluated for result in item.report.results})
    return (
        "the networks are trained on other data, at another size and for fewer steps. The names of the metrics contain "
        f"their judges: {', '.join(judges) or 'none'}."
    )


def quality_charts(content: Content) -> list[str]:
    """Return a chart for the main score of every metric with values in [0, 1] that several evaluations share."""
    scores: dict[str, dict[str, float]] = {}
    for item in content.evaluated:
        for result in item.report.results:
            if "overall" in result.scores and result.higher_is_better:
                scores.setdefault(result.metric, {})[item.task] = result.scores["overall"].value
    return [quality_chart(content.evaluated, metric, by_task) for metric, by_task in scores.items()]


def cost_rows(content: Content) -> list[list[str]]:
    """Return the costs of every network and width that was evaluated."""
    rows: dict[str, list[str]] = {}
    for item in content.evaluated:
        name = f"{item.trained} {item.width:g}x"
        rows[name] = [name, *(cost(item.costs, f"{column} {item.width:g}x") for column in COSTS)]
    return list(rows.values())


def cost(costs: Mapping[str, float], name: str) -> str:
    """Format a cost, or return "-" if it is unknown."""
    return f"{costs[name]:.3g}" if name in costs else "-"


def task_rows(recipe: Recipe, content: Content) -> list[list[str]]:
    """Return what each task needs, how long it took, when it finished, and where its result is."""
    rows = []
    for name, needed in recipe.graph().items():
        record = content.records.get(name)
        details = ["", "not finished", ""] if record is None else [
            duration(record.seconds), record.finished, record.output.folder,
        ]  # fmt: skip
        rows.append([name, ", ".join(dict.fromkeys(needed)), *details])
    return rows


def number(value: float) -> str:
    """Format a score as the paper does, or return "-" if it was not measured."""
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" if abs(value) >= PERCENT_FROM else f"{value:.3f}"


def data_url(path: Path) -> str:
    """Return a URL that contains an image, reduced to ``MAX_WIDTH``."""
    with Image.open(path) as image:
        image.thumbnail((MAX_WIDTH, 8 * MAX_WIDTH))
        encoded = io.BytesIO()
        image.convert("RGB").save(encoded, "webp", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"

"""The HTML report of an evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from evaluation.contract import ImageSet, Result
from evaluation.report.grid import render_grid
from evaluation.report.results import Report, format_interval, interval
from pocketdit.files import write_atomically

FILE_NAME = "report.html"


def write_html(report: Report, images: Sequence[ImageSet | None], folder: Path, resamples: int) -> Path:
    """Write report.html and the image grids that it shows.

    Args:
        report: The report.
        images: The images of each result; None for results that are not based on images.
        folder: Folder to write to.
        resamples: Number of resamples for bootstrap confidence intervals.

    Returns:
        Path of report.html.
    """
    environment = Environment(
        loader=PackageLoader("evaluation.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sections = [
        _section(number, result, image_set, folder, resamples)
        for number, (result, image_set) in enumerate(zip(report.results, images, strict=True))
    ]
    page = environment.get_template("report.html.jinja").render(
        report=report, sections=sections, provenance=_as_json(report.made)
    )
    return write_atomically(folder / FILE_NAME, page)


def _section(number: int, result: Result, images: ImageSet | None, folder: Path, resamples: int) -> dict[str, Any]:
    """Return the template's values for one result, and save its grid."""
    file_name = None
    if images is not None and (grid := render_grid(result, images)):
        file_name = f"grid-{number}.png"
        grid.save(folder / file_name)
    return {
        "metric": result.metric,
        "scores": [
            (name, f"{score.value:.4f}", format_interval(interval(result, name, resamples)), score.samples)
            for name, score in result.scores.items()
        ],
        "notes": result.notes,
        "grid": file_name,
        "protocol": _as_json(result.protocol),
    }


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1, default=str)

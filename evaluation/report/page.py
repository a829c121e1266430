"""The HTML report of an evaluation: one file that contains its images, so that it can be sent and shown anywhere.

MLflow, for example, shows it in a frame that cannot load other files.
"""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from evaluation.contract import ImageSet, Result
from evaluation.report.grid import render_grid
from evaluation.report.results import Report, format_interval, interval
from pocketdit.files import write_atomically

FILE_NAME = "report.html"
_QUALITY = 90  # WebP quality of the images, from 0 to 100


def write_html(report: Report, images: Sequence[ImageSet | None], folder: Path, resamples: int) -> Path:
    """Write report.html.

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
        _section(result, image_set, resamples) for result, image_set in zip(report.results, images, strict=True)
    ]
    page = environment.get_template("report.html.jinja").render(
        report=report, sections=sections, provenance=_as_json(report.made)
    )
    return write_atomically(folder / FILE_NAME, page)


def _section(result: Result, images: ImageSet | None, resamples: int) -> dict[str, Any]:
    """Return the template variables for one result."""
    grid = None if images is None else render_grid(result, images)
    return {
        "metric": result.metric,
        "scores": [
            (name, f"{score.value:.4f}", format_interval(interval(result, name, resamples)), score.samples)
            for name, score in result.scores.items()
        ],
        "notes": result.notes,
        "grid": grid and _data_url(grid),
        "protocol": _as_json(result.protocol),
    }


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1, default=str)


def _data_url(image: Image.Image) -> str:
    """Return a URL that contains the image."""
    encoded = io.BytesIO()
    image.save(encoded, "webp", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"

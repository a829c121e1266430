"""Tests for the HTML report and its image grids."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.contract import ImageSet, Prompt, PromptSet, Result, Score
from evaluation.report.grid import render_grid
from evaluation.report.page import write_html
from evaluation.report.results import Report
from evaluation.report.tables import results_table
from tests.evaluation.report.example import example_result


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Images whose red channel encodes the score of their prompt."""
    prompts = PromptSet("p", tuple(Prompt(f"p{i}", f"prompt <{i}>") for i in range(40)))
    files = {}
    for name, value in example_result().scores["overall"].by_prompt.items():
        files[name] = (tmp_path / f"{name}.png",)
        Image.new("RGB", (96, 64), (round(255 * value), 0, 0)).save(files[name][0])
    return ImageSet(prompts, files, {"seed": 0})


def test_grid_shows_best_median_and_worst(images: ImageSet) -> None:
    result = example_result()
    grid = render_grid(result, images)
    assert grid is not None
    pixels = np.asarray(grid)
    reds = [[int(pixels[206 * row + 40, 60 + 160 * column + 40, 0]) for column in range(5)] for row in range(3)]
    best, median, worst = (sorted(result.scores["overall"].by_prompt.values(), reverse=True)[i] for i in (0, 20, 39))
    assert reds[0][0] == round(255 * best)
    assert reds[2][4] == round(255 * worst)
    assert reds[0] == sorted(reds[0], reverse=True)
    assert abs(reds[1][2] - 255 * median) < 20


@pytest.mark.parametrize(
    "text",
    ["first line\nsecond line\r\nthird", "\n\n", "x" * 100_000, "word " * 50_000, "a\0b \u2028 \ud800", "日本語"],
)
def test_any_prompt_has_a_caption_within_its_tile(text: str, images: ImageSet) -> None:
    """A prompt may contain line breaks or no space at all. Its caption must not cover the images next to it."""
    prompts = tuple(replace(p, text=text if p.id == "p0" else "y") for p in images.prompts.prompts)
    first, *others = (
        render_grid(
            Result("m", {"overall": Score(0.5, 40, {f"p{i}": (i == 0) / 2 for i in range(40)})}, {}),
            replace(images, prompts=PromptSet("p", shown)),
        )
        for shown in (prompts, tuple(replace(p, text="y") for p in prompts))
    )
    assert first is not None
    (plain,) = others
    differing = np.argwhere((np.asarray(first) != np.asarray(plain)).any(axis=2))
    assert len(differing)
    top, left = differing.min(axis=0)
    bottom, right = differing.max(axis=0)
    assert left >= 60
    assert right < 60 + 160
    assert top >= 156
    assert bottom < 206


def test_result_without_values_by_prompt_has_no_grid(images: ImageSet) -> None:
    assert render_grid(Result("fd (x)", {"overall": Score(3.5, 40)}, {}, False), images) is None


def test_page_is_one_file_that_contains_its_images(images: ImageSet, tmp_path: Path) -> None:
    report = Report("eval", "run", (example_result(),), {})
    folder = tmp_path / "report"
    folder.mkdir()
    page = write_html(report, [images], folder, 200).read_text()
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    assert re.findall(r"(?:src|href)=.(?!data:)", page) == []
    ((kind, data),) = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)), formats=[kind.upper()]).convert("RGB"))
    grid = render_grid(example_result(), images)
    assert grid is not None
    assert np.abs(shown.astype(int) - np.asarray(grid)).mean() < 2


def test_page_escapes_text_and_shows_scores_grids_and_protocol(images: ImageSet, tmp_path: Path) -> None:
    distance = Result("fd (<x>)", {"overall": Score(3.5, 40)}, {"note": "</pre><script>"}, False, ("At most <3.",))
    report = Report("eval", "<run> & co", (example_result(), distance), {"p": {"path": "<b>"}})
    page = write_html(report, [images, None], tmp_path, 200).read_text()
    assert "<title>eval: &lt;run&gt; &amp; co</title>" in page
    assert not any(text in page for text in ("<run>", "<x>", "<script>", "<b>"))
    assert page.count("<img ") == 1
    assert "<td>3.5000</td><td>-</td><td>40</td>" in page
    assert "<p>At most &lt;3.</p>" in page
    assert "\n\nfd (<x>): At most <3." in results_table(report, 200)
    assert "&#34;threshold&#34;: 0.3" in page

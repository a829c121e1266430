"""Results on disk, their intervals, the page and the comparison."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.contract import ImageSet, Prompt, PromptSet, Result, Score
from evaluation.report import results as report
from evaluation.report.results import Report
from pocketdit.errors import UserError


def score(values: dict[str, float]) -> Score:
    return Score(sum(values.values()) / len(values), 4 * len(values), values)


def result(shift: float = 0.0) -> Result:
    generator = np.random.default_rng(0)
    values = {f"p{i}": float(v) + shift for i, v in enumerate(generator.random(40))}
    return Result("geneval (judge)", {"overall": score(values)}, {"threshold": 0.3})


def test_results_come_back_from_disk(tmp_path: Path) -> None:
    found = Report(
        "eval", "run 1x", (result(), Result("fd (x)", {"overall": Score(3.5, 40)}, {}, False)), {"p": {"seed": 0}}
    )
    path = report.save(found, tmp_path, 200)
    assert report.load(path) == report.load(tmp_path) == found
    for text, message in (("{", "no results"), ('{"schema": 99}', "schema 99"), ('{"schema": 1}', "no results")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            report.load(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        report.load(tmp_path / "none")


def test_the_interval_of_a_mean_of_categories_draws_within_them() -> None:
    """GenEval's overall weighs tags equally: with 90 easy prompts and 10 hard ones it is not the mean of prompts."""
    easy = {f"e{i}": 1.0 for i in range(90)}
    hard = {f"h{i}": float(i % 2) for i in range(10)}
    both = Result("g", {"easy": score(easy), "hard": score(hard), "overall": Score(0.75, 100, easy | hard)}, {})
    low, high = report.interval(both, "overall", 4000) or (0, 0)
    # half the hard tag's mean varies: standard error 0.5 * sqrt(0.25 / 10)
    assert low == pytest.approx(0.75 - 1.96 * 0.5 * math.sqrt(0.025), abs=0.03) and high > 0.82
    assert report.interval(Result("g", {"overall": Score(0.2, 100, easy | hard)}, {}), "overall") is None
    assert report.interval(Result("g", {"overall": Score(3.5, 100)}, {}), "overall") is None
    narrow, wide = (report.interval(result(), "overall") for _ in range(2))
    assert narrow == wide and narrow is not None and narrow[0] < result().scores["overall"].value < narrow[1]


def test_the_page_shows_best_median_and_worst(tmp_path: Path) -> None:
    prompts = PromptSet("p", tuple(Prompt(f"p{i}", f"prompt <{i}>") for i in range(40)))
    one = result()
    images = {}
    for name, value in one.scores["overall"].by_prompt.items():
        images[name] = (tmp_path / f"{name}.png",)
        Image.new("RGB", (96, 64), (round(255 * value), 0, 0)).save(images[name][0])
    image_set = ImageSet(prompts, images, {"seed": 0})
    grid = report.draw_grid(one, image_set)
    assert grid is not None
    reds = [[grid.getpixel((60 + 160 * column + 40, 206 * row + 40))[0] for column in range(5)] for row in range(3)]
    best, median, worst = (sorted(one.scores["overall"].by_prompt.values(), reverse=True)[i] for i in (0, 20, 39))
    assert reds[0][0] == round(255 * best) and reds[2][4] == round(255 * worst)
    assert reds[0] == sorted(reds[0], reverse=True) and abs(reds[1][2] - 255 * median) < 20
    page = report.write_html(Report("eval", "<run>", (one,), {}), [image_set], tmp_path, 200).read_text()
    assert "&lt;run&gt;" in page and "<run>" not in page and 'src="grid-0.png"' in page and "0.3" in page


def test_two_runs_are_compared_prompt_by_prompt() -> None:
    first, second = (Report("e", name, (result(shift),), {}) for name, shift in (("a", 0.0), ("b", 0.25)))
    text = report.compare(first, second)
    assert "b minus a" in text and "0.25" in text and "made with" not in text
    steps = [Report("e", "c", (result(),), {"p": {"steps": number, "seed": 0}}) for number in (6, 24)]
    assert "made with other steps: 24 against 6" in report.compare(*steps)
    with pytest.raises(UserError, match="share no metric"):
        report.compare(first, Report("e", "c", (Result("other", {"overall": Score(1, 1)}, {}),), {}))

"""Tests for the report of a recipe."""

import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from evaluation.contract import Result, Score
from evaluation.report import results
from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.commands.main import main
from pocketdit.commands.recipe.execution import record_file
from pocketdit.commands.recipe.records import Record, read_output, save_record
from pocketdit.commands.recipe.report.content import Preview, evenly
from pocketdit.commands.recipe.report.page import write_report
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.config.load import load
from tests.conftest import PRETRAIN, tiny_overrides

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RECIPE = """
recipe: shown
runs: {folder}/runs
tasks:
  pretrain: {{kind: train, file: experiments/elastic_pretrain.yaml}}
  teacher: {{kind: train, file: experiments/teacher.yaml}}
  score: {{kind: evaluate, file: experiments/eval/embedded.yaml, run: pretrain, overrides: [width=0.5]}}
"""
SCORES = [
    Result("geneval (scene-rules)", {"overall": Score(0.6875, 8), "counting": Score(0.125, 4)}, {}),
    Result("dpg (scene-rules)", {"overall": Score(81.25, 8)}, {}),
]


@pytest.fixture(scope="module")
def page(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of a recipe in which only a tiny run and its evaluation have finished, and return its path."""
    folder = tmp_path_factory.mktemp("report")
    arguments = [*tiny_overrides(scenes, folder), "training.max_steps=4", "training.sample_every=2"]
    assert main(["run", str(PRETRAIN), *arguments, "--name", "a"]) == 0
    run = find(folder / "runs", "elastic_pretrain/a")
    result = results.save(results.Report("embedded", "a run", tuple(SCORES), {}), folder / "results", 100)
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.format(folder=folder))
    recipe = load(file, [], Recipe).config
    when = "2026-01-02T03:04:05+00:00"
    output = read_output(run.path, [run.weights, run.finished])
    save_record(record_file(recipe, "pretrain"), Record({}, output, 754.0, when))
    save_record(record_file(recipe, "score"), Record({}, read_output(result.parent, [result]), 12.0, when))
    return write_report(recipe)


def cells(page: Path) -> set[str]:
    return {html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>([^<]*)<", page.read_text())}


def test_the_figures_are_those_of_the_results(page: Path) -> None:
    stored = json.loads((page.parents[3] / "results" / "results.json").read_text())
    values = {entry["metric"]: entry["scores"]["overall"]["value"] for entry in stored["results"]}
    shown = cells(page)
    assert {f"{values['geneval (scene-rules)']:.3f}", f"{values['dpg (scene-rules)']:.1f}", "0.125"} <= shown
    assert any(re.fullmatch(r"pretrain 0\.5x, \d+ steps", cell) for cell in shown)
    assert {"12.6 min", "12 s", "2026-01-02T03:04:05+00:00"} <= shown


def test_what_is_missing_is_said(page: Path) -> None:
    text = html.unescape(page.read_text())
    for missing in ("task teacher has not finished", "T2I-CompBench: no task measures it", "main Table 1", "Figure 3"):
        assert missing in text
    assert "SANA" not in text, "results of the paper that cannot be compared must not be shown"


def test_previews_are_thinned_out_evenly() -> None:
    previews = [Preview(step, Path(f"step-{step}.png")) for step in range(100)]
    steps = [preview.step for preview in evenly(previews, 12)]
    assert steps == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]
    assert evenly(previews[:3], 12) == previews[:3]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_works_at_every_width_by_keyboard_and_alone(page: Path, browser: "Browser", width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900})
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    visible = tab.locator("#samples ~ figure img:visible")
    assert visible.count() == 1
    last = visible.get_attribute("alt")
    tab.locator("input[type=range]").focus()
    tab.keyboard.press("Home")
    assert visible.count() == 1
    assert visible.get_attribute("alt") == "Samples of pretrain at step 0" != last
    assert tab.locator("output").inner_text() == "0"
    assert all(url.startswith(("file:", "data:")) for url in requests)
    tab.close()


def test_without_results_the_page_says_so(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(folder=tmp_path))
    page = write_report(load(file, [], Recipe).config)
    assert "No evaluation has finished." in page.read_text()


def test_names_are_shown_as_text(page: Path) -> None:
    """A run folder may be from someone else, so HTML in its names is escaped."""
    recipe = load(page.parents[3] / "recipe.yaml", [], Recipe).config
    folder = RunFolder(page.parents[3] / "<script>alert(1)<")
    folder.samples.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder.samples / "step-000001.png")
    folder.weights.write_bytes(b"")
    output = read_output(folder.path, [folder.weights])
    save_record(record_file(recipe, "teacher"), Record({}, output, 1.0, "<b>now"))
    folder.config.write_text(PRETRAIN.read_text())
    text = write_report(recipe).read_text()
    assert "<script>alert" not in text
    assert "<b>now" not in text

"""Tests for the report of a recipe."""

import base64
import html
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from evaluation.contract import ImageArray, Prompt, PromptSet, Result, Score
from evaluation.report import results
from evaluation.subjects.image_cache import sample_images
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.commands.main import main
from pocketdit.commands.recipe.execution import record_file
from pocketdit.commands.recipe.records import Record, read_output, save_record
from pocketdit.commands.recipe.report.content import Preview, evenly
from pocketdit.commands.recipe.report.page import write_report
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.config.load import load
from pocketdit.tracking.journal import read_metrics
from pocketdit.training.cost import parameters_by_width
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
  score_distilled:
    kind: evaluate
    file: experiments/eval/embedded.yaml
    run: pretrain
    overrides: [width=0.5, steps=4]
report:
  elastic: [pretrain]
  base: [score]
  few_step: [score_distilled]
  recipes: ["{folder}/ladder.yaml"]
"""
LADDER = """
recipe: ladder
tasks:
  plain: {kind: train, file: experiments/elastic_pretrain.yaml}
  three_stages: {kind: train, file: experiments/elastic_pretrain.yaml}
report:
  standalone: [plain]
  ladder: [plain, three_stages]
"""
SCORES = [
    Result("geneval (scene-rules)", {"overall": Score(0.6875, 8), "counting": Score(0.125, 4)}, {}),
    Result("dpg (scene-rules)", {"overall": Score(81.25, 8)}, {}),
    Result("fd (scene-features)", {"overall": Score(12.3456, 8)}, {}, higher_is_better=False),
    Result("throughput", {"overall": Score(3.25, 8)}, {}),
]
DISTILLED = [
    Result("geneval (scene-rules)", {"overall": Score(0.5625, 8)}, {}),
    Result("dpg (scene-rules)", {"overall": Score(78.125, 8)}, {}),
]
PROMPTS = PromptSet("geneval", tuple(Prompt(f"{i:02d}", f"prompt <{i}>") for i in range(8)))
WHEN = "2026-01-02T03:04:05+00:00"


class Gray:
    """Samples gray images whose brightness encodes the prompt."""

    def provenance(self) -> dict[str, Any]:
        return {"subject": "gray"}

    def sample(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        for prompt in prompts:
            yield prompt, np.full((16, 16, 3), 20 * int(prompt.id), np.uint8)


@pytest.fixture(scope="module")
def page(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of a recipe in which a tiny run and its two evaluations have finished, and return its path."""
    folder = tmp_path_factory.mktemp("report")
    arguments = [
        *tiny_overrides(scenes, folder),
        "training.max_steps=6",
        "training.sample_every=2",
        "training.log_every=1",
    ]
    assert main(["run", str(PRETRAIN), *arguments, "training.validate_every=3", "--name", "a"]) == 0
    run = find(folder / "runs", "elastic_pretrain/a")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    (folder / "ladder.yaml").write_text(LADDER)
    recipe = load(folder / "recipe.yaml", [], Recipe).config
    others = replace(load(folder / "ladder.yaml", [], Recipe).config, runs=recipe.runs)
    trained = Record({}, read_output(run.path, [run.weights, run.finished]), 754.0, WHEN)
    for owner, task in ((recipe, "pretrain"), (others, "plain")):
        save_record(record_file(owner, task), trained)
    for task, scores in (("score", SCORES), ("score_distilled", DISTILLED)):
        out = folder / "evaluations" / task
        file = results.save(results.Report("embedded", "a run", tuple(scores), {}), out / "embedded" / "a", 100)
        sample_images(Gray(), PROMPTS, out / "images")
        save_record(record_file(recipe, task), Record({}, read_output(out, [file]), 12.0, WHEN))
    return write_report(recipe)


def cells(page: Path) -> set[str]:
    return {html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>([^<]*)<", page.read_text())}


def rows(page: Path, title: str) -> list[dict[str, str]]:
    """Return the rows of the table with a title."""
    section = page.read_text().partition(f"<h3>{title}")[2].partition("</table>")[0]
    assert section, title
    header, *body = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in section.split("<tr>")[1:]]
    return [dict(zip(map(html.unescape, header), map(html.unescape, row), strict=True)) for row in body]


def test_the_figures_are_those_of_the_results(page: Path) -> None:
    found = page.parents[3] / "evaluations"
    for task, row in zip(("score", "score_distilled"), rows(page, "Summary (the paper&#39;s Table 2)"), strict=True):
        (file,) = (found / task).rglob("results.json")
        stored = json.loads(file.read_text())
        values = {entry["metric"]: entry["scores"]["overall"]["value"] for entry in stored["results"]}
        assert row["GenEval"] == f"{values['geneval (scene-rules)']:.3f}"
        assert row["DPG"] == f"{values['dpg (scene-rules)']:.1f}"
        assert row["images/s"] == (f"{values['throughput']:.2f}" if "throughput" in values else "-")
        assert (row["T2I-C.B."], row["arch."]) == ("-", "DiT")
    assert {"0.125", "12.6 min", "12 s", WHEN} <= cells(page)


def test_table_1_has_losses_distances_and_memory(page: Path) -> None:
    run = find(page.parents[3] / "runs", "elastic_pretrain/a")
    logged = read_metrics(run.metrics)
    parameters = parameters_by_width(load_experiment(run).backbone)
    elastic, standalone = (
        rows(page, "Standalone and elastic training")[:2],
        rows(page, "Standalone and elastic training"),
    )
    assert [row["network"] for row in elastic] == ["pretrain 0.5x", "pretrain 1x"]
    for row, width in zip(elastic, (0.5, 1.0), strict=True):
        assert row["validation loss"] == f"{logged[f'validation/loss/width_{width:g}'][-1][1]:.4f}"
        assert row["training footprint (GB)"] == f"{logged['speed/peak_memory_gb'][-1][1]:.2f}"
        assert row["parameters (M)"] == f"{parameters[width] / 1e6:.3g}"
    assert [row["Fréchet distance"] for row in elastic] == ["12.3456", "-"], "only 0.5x has been evaluated"
    assert all(row["training"] == "elastic" for row in standalone)
    assert page.read_text().count("<h3>Standalone and elastic training") == 2, "each recipe has a table"


def test_the_time_of_all_steps_counts_guidance(page: Path) -> None:
    table = rows(page, "Latency and generation time")
    one, all_steps = "predicted latency of one evaluation (ms)", "predicted latency of all steps (ms)"
    own = load_experiment(find(page.parents[3] / "runs", "elastic_pretrain/a")).sampling
    assert own.guidance > 1
    for row, steps in zip(table, (own.steps, 4), strict=True):
        assert float(row[all_steps]) == pytest.approx(float(row[one]) * steps * 2, rel=0.05)


def test_scores_outside_the_papers_tables_are_shown(page: Path) -> None:
    (row,) = rows(page, "Other scores")
    assert (row["metric"], row["score"], row["samples"]) == ("fd (scene-features)", "12.3456", "8")


def test_images_before_and_after_distillation_share_their_prompts(page: Path) -> None:
    section = page.read_text().partition('<h2 id="few-steps">')[2].partition("<h2")[0]
    assert re.findall(r"<b>([^<]*)</b>", section) == ["81.2 / 0.688", "78.1 / 0.562"]
    texts = [html.unescape(text) for text in re.findall(r'alt="([^"]*)"', section)]
    assert texts == ["prompt <0>", "prompt <2>", "prompt <4>", "prompt <6>"] * 2
    for number, url in enumerate(re.findall(r"base64,([^\"]*)", section)):
        pixel = Image.open(io.BytesIO(base64.b64decode(url))).convert("L").getpixel((8, 8))
        assert pixel == pytest.approx(40 * (number % 4), abs=3)


def test_the_ladder_shows_what_has_been_trained(page: Path) -> None:
    section = page.read_text().partition('<h2 id="ladder">')[2].partition("<h2")[0]
    assert "Validation loss, parameters and predicted latency of plain" in section
    loss = read_metrics(find(page.parents[3] / "runs", "elastic_pretrain/a").metrics)["validation/loss/width_1"][-1][1]
    assert f">{loss:.4f}<" in section


def test_what_is_missing_is_said(page: Path) -> None:
    text = html.unescape(page.read_text())
    for missing in (
        "task teacher of recipe shown has not finished",
        "task three_stages of recipe ladder has not finished",
        "T2I-CompBench: no task measures it",
    ):
        assert missing in text
    for shown in ("none of its networks", "no standalone network", "not both"):
        assert shown not in text
    assert "SANA" not in text, "results of the paper that cannot be compared must not be shown"


def test_a_recipe_without_ablations_says_that_they_are_missing(page: Path, tmp_path: Path) -> None:
    recipe = load(page.parents[3] / "recipe.yaml", ["report={}"], Recipe).config
    text = html.unescape(write_report(replace(recipe, runs=recipe.runs)).read_text())
    for missing in ("the paper's Table 1", "the paper's Figure 3", "the paper's Figure 8"):
        assert f"<li>{missing}" in text.replace("&#39;", "'")
    write_report(load(page.parents[3] / "recipe.yaml", [], Recipe).config)


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
    visible = tab.locator("#image-1 img:visible")
    assert visible.count() == 1
    last = visible.get_attribute("alt")
    tab.locator("input[type=range]").first.focus()
    tab.keyboard.press("Home")
    assert visible.count() == 1
    assert visible.get_attribute("alt") == "Samples of pretrain at step 0" != last
    assert tab.locator("output").first.inner_text() == "0"
    assert all(url.startswith(("file:", "data:")) for url in requests)
    tab.close()


def test_without_results_the_page_says_so(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(folder=tmp_path))
    (tmp_path / "ladder.yaml").write_text(LADDER)
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

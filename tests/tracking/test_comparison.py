"""Tests for the MLflow page that compares the runs of a project."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pocketdit.tracking.comparison import KIND, MAX_COLUMNS, TRAINING, columns, comparison_url
from pocketdit.tracking.logger import RunLogger
from pocketdit.tracking.ui import find_free_port, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FIGURES = {"geneval scene-rules 0.5x": 0.75, "geneval scene-rules/counting 0.5x": 0.25, "parameters M 0.5x": 1.26}


def track(folder: Path, uri: str, kind: str, metrics: dict[str, float]) -> None:
    logger = RunLogger(folder, uri, "shown")
    logger.log_tag(KIND, kind)
    logger.log_metrics(metrics, 0)
    logger.finalize("success")


def test_scores_come_before_losses_and_costs() -> None:
    names = ["train/loss/width_1", "parameters M 1x", "validation/loss/width_1", "epoch", "size MB 1x", "dpg a 1x",
             "predicted ms per step 1x", "geneval a/counting 1x", "geneval a 0.375x",
             "speed/steps_per_second"]  # fmt: skip
    assert columns(names) == [
        "dpg a 1x", "geneval a 0.375x", "validation/loss/width_1", "parameters M 1x", "predicted ms per step 1x",
        "size MB 1x",
    ]  # fmt: skip
    assert len(columns(f"metric {index} 1x" for index in range(99))) == MAX_COLUMNS


@pytest.mark.timeout(120)
def test_the_table_shows_the_figures_of_training_runs_under_their_names(browser: "Browser", tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    track(tmp_path / "pretrain" / "first", uri, TRAINING, FIGURES | {"train/loss/width_1": 0.125})
    track(tmp_path / "held_out" / "second", uri, "evaluation", {"geneval scene-rules/overall": 0.75})
    with running_server(uri, port := find_free_port(5850)):
        page = browser.new_page(viewport={"width": 1600, "height": 800})
        page.goto(comparison_url(f"http://127.0.0.1:{port}", "shown"))
        page.get_by_text("pretrain/first").first.wait_for(timeout=60_000)
        page.get_by_text("1.26").first.wait_for(timeout=60_000)
        text = page.inner_text("body")
        page.close()
    for shown in ("geneval scene-rules 0.5x", "parameters M 0.5x", "0.75", "1 matching run"):
        assert shown in text
    for hidden in ("geneval scene-rules/counting 0.5x", "train/loss/width_1", "held_out/second"):
        assert hidden not in text

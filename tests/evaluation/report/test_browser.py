"""Tests for the report as a browser shows it inside MLflow."""

import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.contract import ImageSet, Prompt, PromptSet, Result, Score
from evaluation.report import page, results
from evaluation.report.results import Report
from evaluation.settings import Evaluation
from evaluation.tracking import track
from pocketdit.config.component import Component
from pocketdit.config.experiment import Tracking
from pocketdit.tracking.ui import find_free_port, running_server
from tests.browsers import CHROMIUM, OPTIONS

HEADLESS = ("--headless", "--window-size=1600,1600", "--virtual-time-budget=30000")
COLOR = (255, 0, 255)  # a color that does not occur in MLflow's pages


def screenshot(url: str, folder: Path) -> Image.Image:
    """Return a screenshot of a page after everything in it has been loaded."""
    file = folder / "page.png"
    command = [str(CHROMIUM), *OPTIONS, *HEADLESS, f"--user-data-dir={folder / 'profile'}", f"--screenshot={file}", url]
    browser = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert browser.wait(120) == 0
    finally:
        if browser.poll() is None:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
    return Image.open(file).convert("RGB")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_mlflow_shows_the_report_with_its_images(tmp_path: Path) -> None:
    """MLflow shows HTML files in a frame that cannot load other files or scripts from the page's origin."""
    Image.new("RGB", (64, 64), COLOR).save(tmp_path / "image.png")
    prompts = PromptSet("p", (Prompt("a", "magenta"), Prompt("b", "pink")))
    images = ImageSet(prompts, dict.fromkeys(("a", "b"), (tmp_path / "image.png",)), {"seed": 0})
    result = Result("metric", {"overall": Score(0.5, 2, {"a": 0.75, "b": 0.25})}, {})
    report = Report("colors", "folder", (result,), {"p": {"seed": 0}})
    folder = tmp_path / "report"
    results.save(report, folder, 100)
    page.write_html(report, [images], folder, 100)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = Evaluation("colors", Component("x"), {}, (Component("x"),), tracking=Tracking(uri=uri))
    track(settings, report, folder, {}, start=1000.5)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        ((run, experiment, start),) = database.execute(
            "SELECT run_uuid, experiment_id, start_time FROM runs"
        ).fetchall()
    assert start == 1_000_500
    port = find_free_port(5800)
    with running_server(uri, port):
        url = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs/{run}/artifacts/report.html"
        pixels = np.asarray(screenshot(url, tmp_path)).astype(int)
    shown = (np.abs(pixels - COLOR).max(axis=-1) < 8).sum()
    # The grid has three rows (best, median, worst) of two images with at least 64x64 pixels.
    assert shown > 0.9 * 6 * 64 * 64

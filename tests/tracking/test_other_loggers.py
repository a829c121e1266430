"""Tests that metrics and previews also reach TensorBoard and Weights & Biases, whose errors never end a run."""

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import wandb
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from pocketdit.commands.main import main
from pocketdit.config.experiment import TensorBoard, WeightsAndBiases
from pocketdit.errors import ConfigError
from pocketdit.tracking.journal import read_metrics
from pocketdit.tracking.logger import RunLogger
from pocketdit.tracking.other_loggers import require_others
from tests.conftest import PRETRAIN
from tests.tracking.conftest import StartProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the tests from using the wandb account of the current user, and end the process that wandb starts."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    yield
    wandb.teardown()


def test_a_run_is_also_written_for_tensorboard_and_wandb(tiny: list[str], tmp_path: Path) -> None:
    """The logged steps are optimizer steps, although Lightning counts batches."""
    also = "tracking.also=[{kind: tensorboard}, {kind: wandb, mode: offline}]"
    assert main(["run", str(PRETRAIN), *tiny, also, "training.max_steps=3", "training.accumulate=2"]) == 0
    run = (tmp_path / "runs" / "elastic_pretrain" / "latest").resolve()
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    expected = read_metrics(run / "metrics.jsonl")
    assert set(events.Tags()["scalars"]) == set(expected)
    for name, values in expected.items():
        written = events.Scalars(name)
        assert [event.step for event in written] == [step for step, _ in values], name
        assert [event.value for event in written] == pytest.approx([value for _, value in values], rel=1e-6), name
    (image,) = events.Images("samples")
    preview = Image.open(run / "samples" / "step-000003.png")
    assert (image.step, image.width, image.height) == (3, *preview.size)
    settings = (run / "tensorboard" / "hparams.yaml").read_text()
    assert "training.accumulate: '2'" in settings
    (offline,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    content = offline.read_bytes()
    assert all(name.encode() in content for name in expected)


@pytest.mark.timeout(120)
def test_tensorboard_shows_the_curves_of_a_run(
    run_folder: Path, store: str, browser: "Browser", start_process: StartProcess
) -> None:
    logger = RunLogger(run_folder, store, "logger", others=[TensorBoard("tensorboard")])
    for step in range(3):
        logger.log_metrics({"train/loss/width_0.5": 1 / (step + 1), "validation/loss/width_1": 0.25}, step)
    logger.finalize("success")
    options = ("--logdir", str(run_folder / "tensorboard"), "--host", "127.0.0.1", "--port", "0")
    server = start_process("from tensorboard.main import run_main; run_main()", *options, stderr=subprocess.PIPE)
    assert server.stderr is not None
    addresses = (re.search(r"TensorBoard .* at (http://127[.]0[.]0[.]1:\d+/)", line) for line in server.stderr)
    address = next(match[1] for match in addresses if match)
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{address}#timeseries")
    for name in ("train/loss/width_0.5", "validation/loss/width_1"):
        page.get_by_text(name, exact=True).first.wait_for(timeout=60_000)
    page.get_by_text("0.3333", exact=True).first.wait_for(timeout=60_000)
    page.close()


def test_an_error_is_reported_once_and_the_run_continues(
    run_folder: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    (run_folder / "tensorboard").write_text("a file where the folder should be")
    logger = RunLogger(run_folder, store, "logger", others=[TensorBoard("tensorboard")])
    with caplog.at_level(logging.WARNING, "pocketdit"):
        for step in range(3):
            logger.log_metrics({"loss": 1.0}, step)
        (run_folder / "a.png").write_bytes(b"")
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(run_folder / "a.png")
        logger.log_image("samples", run_folder / "a.png", 2)
        logger.finalize("success")
    (record,) = (record for record in caplog.records if "tracking.also" in record.message)
    assert "tracking.also: tensorboard failed, so nothing more is logged to it: " in record.message
    assert read_metrics(run_folder / "metrics.jsonl")["loss"] == [(step, 1.0) for step in range(3)]


def test_a_missing_package_or_account_is_reported_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    online = WeightsAndBiases("wandb")
    monkeypatch.setattr(wandb, "login", lambda prompt: False)
    with pytest.raises(ConfigError, match=r"tracking.also.1: .* not logged in .*: wandb login, or set mode: offline"):
        require_others([TensorBoard("tensorboard"), online])
    require_others([WeightsAndBiases("wandb", mode="offline")])
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"tracking.also.0: tensorboard is not installed; .*pocketdit\[loggers\]"):
        require_others([TensorBoard("tensorboard")])


def test_wandb_without_an_account_does_not_ask_for_one() -> None:
    with pytest.raises(ConfigError, match="not logged in"):
        require_others([WeightsAndBiases("wandb")])

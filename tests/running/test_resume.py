"""Tests that a run that was killed and resumed logs the same losses as an uninterrupted run, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pocketdit.artifacts.run_folder import find
from pocketdit.tracking.journal import read_metrics
from tests.conftest import PRETRAIN, ROOT


def start(arguments: list[str], log: Path, file: Path = PRETRAIN) -> subprocess.Popen[bytes]:
    with log.open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pocketdit", "run", str(file), *arguments],
            cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def train_losses(folder: Path) -> dict[str, list[tuple[int, float]]]:
    return {k: v for k, v in read_metrics(folder / "metrics.jsonl").items() if k.startswith("train/")}


def kill_after(
    process: subprocess.Popen[bytes], run: Path, steps: int, loss: str = "train/loss/width_1", timeout: float = 150
) -> int:
    """Kill the process group once the run has logged at least ``steps`` losses, and return the number of losses."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        journal = run / "metrics.jsonl"
        if journal.exists():
            count = len(read_metrics(journal).get(loss, []))
            if count >= steps:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return count
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.01)
    raise AssertionError(f"the run did not log {steps} losses in {timeout} seconds")


@pytest.mark.slow
@pytest.mark.parametrize(
    "processes", [pytest.param(1, id="one process"), pytest.param(2, id="two processes (DDP, gloo)")]
)
def test_killed_run_resumes_bit_for_bit(tiny: list[str], tmp_path: Path, processes: int) -> None:
    """An epoch of 64 samples has 16 steps (8 with two processes), so a run of 20 steps crosses the end of an epoch."""
    arguments = [*tiny, "data.init_args.workers=2", "training.max_steps=20", "training.checkpoint_every=3",
                 f"training.devices={processes}", "training.accelerator=cpu"]  # fmt: skip
    runs = tmp_path / "runs"
    uninterrupted = start([*arguments, "--name", "uninterrupted"], tmp_path / "uninterrupted.log")
    assert uninterrupted.wait(timeout=200) == 0, (tmp_path / "uninterrupted.log").read_text()

    killed = start([*arguments, "--name", "killed"], tmp_path / "killed.log")
    steps_before = kill_after(killed, runs / "elastic_pretrain" / "killed", steps=random.randint(4, 16))
    folder = find(runs, "elastic_pretrain/killed")
    assert folder.checkpoint.is_file()
    assert not folder.finished.exists()
    assert steps_before < 20
    resumed = start([*arguments, "--resume", "elastic_pretrain/killed"], tmp_path / "again.log")
    assert resumed.wait(timeout=200) == 0, (tmp_path / "again.log").read_text()

    expected = find(runs, "elastic_pretrain/uninterrupted")
    assert train_losses(folder.path) == train_losses(expected.path)
    assert len(train_losses(folder.path)["train/loss/width_1"]) == 20
    assert folder.weights.read_bytes() == expected.weights.read_bytes()
    assert "Traceback" not in (tmp_path / "again.log").read_text()


def test_a_changed_batch_size_is_rejected(tiny: list[str], tmp_path: Path) -> None:
    from pocketdit.commands.main import main

    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=2"]) == 0
    more = [*tiny, "training.max_steps=4", "--resume"]
    assert main(["run", str(PRETRAIN), *more, "data.init_args.batch_size=2"]) == 2
    assert main(["run", str(PRETRAIN), *more]) == 0
    folder = find(tmp_path / "runs", "elastic_pretrain")
    assert int(folder.finished.read_text()) == 4
    assert [step for step, _ in train_losses(folder.path)["train/loss/width_1"]] == [0, 1, 2, 3]


def test_a_finished_run_is_not_changed(tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pocketdit.commands.main import main

    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=2", "--resume"]) == 0
    before = find(tmp_path / "runs", "elastic_pretrain").checkpoint.stat().st_mtime_ns
    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=2", "--resume"]) == 0
    assert find(tmp_path / "runs", "elastic_pretrain").checkpoint.stat().st_mtime_ns == before
    assert "has already finished" in capsys.readouterr().out


@pytest.mark.parametrize("signal_number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_says_how_to_resume(tiny: list[str], tmp_path: Path, signal_number: signal.Signals) -> None:
    process = start([*tiny, "training.max_steps=100000", "--name", "stopped"], tmp_path / "log")
    journal = tmp_path / "runs" / "elastic_pretrain" / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and read_metrics(journal).get("train/loss/width_1")):
        time.sleep(0.1)
    process.send_signal(signal_number)
    assert process.wait(timeout=60) == 1
    text = (tmp_path / "log").read_text()
    assert "--resume elastic_pretrain/stopped" in text
    assert "Traceback" not in text


def test_a_damaged_checkpoint_is_reported_in_one_line(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pocketdit.commands.main import main

    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=2"]) == 0
    checkpoint = find(tmp_path / "runs", "elastic_pretrain").checkpoint
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=4", "--resume"]) == 1
    assert "cannot be read as a checkpoint" in capsys.readouterr().err


def test_another_network_or_optimizer_is_rejected(tiny: list[str], tmp_path: Path) -> None:
    from pocketdit.commands.main import main

    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=2"]) == 0
    before = find(tmp_path / "runs", "elastic_pretrain").config.read_bytes()
    more = [*tiny, "training.max_steps=4", "--resume", "--allow-changes"]
    assert main(["run", str(PRETRAIN), *more, "optimizer.init_args.lr=1.0"]) == 2
    assert main(["run", str(PRETRAIN), *more, "backbone.text_width=32"]) == 2
    assert find(tmp_path / "runs", "elastic_pretrain").config.read_bytes() == before


def test_a_run_that_cannot_start_leaves_no_folder(tiny: list[str], tmp_path: Path) -> None:
    from pocketdit.commands.main import main

    assert main(["run", str(PRETRAIN), *tiny, "backbone.latent_channels=8"]) == 2
    assert main(["run", str(PRETRAIN), *tiny, "data.init_args.batch_size=0"]) == 2
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_write_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    from pocketdit.files import write_atomically

    target = tmp_path / "last.ckpt"
    write_atomically(target, b"good")

    def fail_halfway(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*/last\.ckpt'$"):
        write_atomically(target, fail_halfway)
    assert target.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [target]


def test_journal_is_json_lines(tiny: list[str], tmp_path: Path) -> None:
    from pocketdit.commands.main import main

    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=1"]) == 0
    for line in find(tmp_path / "runs", "elastic_pretrain").metrics.read_text().splitlines():
        json.loads(line)

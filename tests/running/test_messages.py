"""Tests that a run prints every line only once, and prints a note if it has no validation samples."""

import io
import shutil
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from pocketdit import progress
from pocketdit.commands.main import main
from pocketdit.progress import ProgressLine
from tests.conftest import PRETRAIN, Command


def repeated(text: str) -> list[str]:
    return [line for line, count in Counter(text.splitlines()).items() if count > 1 and line.strip()]


def without_metadata(scenes: Path, folder: Path) -> Path:
    """Copy a data set, and remove the metadata of one sample from the copy."""
    shutil.copytree(scenes, folder)
    (shard,) = (folder / "train").glob("*.tar")
    with tarfile.open(scenes / "train" / shard.name) as source, tarfile.open(shard, "w") as target:
        for member in source.getmembers()[:-1] if source.getnames()[-1].endswith(".json") else source.getmembers()[1:]:
            target.addfile(member, source.extractfile(member))
    (folder / "train" / "index.safetensors").unlink(missing_ok=True)
    return folder


def test_two_processes_print_every_line_once(
    tiny: list[str], scenes: Path, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    path = without_metadata(scenes, tmp_path / "data")
    run = ["run", str(PRETRAIN), *tiny, f"data.init_args.path={path}", "training.devices=2", "training.max_steps=2"]
    done = command(*run, "training.accelerator=cpu", "--name", "a")
    assert done.returncode == 0, done.stderr
    assert "readable samples, but dataset.json records" in done.stderr
    assert repeated(done.stdout + done.stderr) == []
    # Resuming a finished run starts no second process.
    assert main([*run, "training.accelerator=cpu", "--resume"]) == 0
    printed = capsys.readouterr()
    assert "already finished" in printed.out
    assert repeated(printed.out + printed.err) == []


def test_a_run_without_validation_samples_says_so(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for index in range(8):
        Image.new("RGB", (128, 128), (30 * index, 0, 0)).save(images / f"{index}.png")
        (images / f"{index}.txt").write_text("a red square")
    assert main(["data", "build", str(images), str(tmp_path / "data"), "--validation", "0"]) == 0
    more = [f"data.init_args.path={tmp_path / 'data'}", "training.validate_every=1", "training.max_steps=2"]
    assert main(["run", str(PRETRAIN), *tiny, *more]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("note: the data set has no validation samples, so the run is not validated\n") == 1
    assert not [warning for warning in recwarn if "Total length" in str(warning.message)]


def test_a_log_contains_the_last_progress_line_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    for last in (1, 2):
        monkeypatch.setattr(sys, "stderr", log := io.StringIO())
        line = ProgressLine("{desc} {n_fmt}/{total_fmt}{postfix}", desc="train", total=2, smoothing=0)
        line.advance(last, "loss 1.0")
        line.close()
        assert log.getvalue().split("\n")[:2] == ["\rtrain 0/2", f"\rtrain {last}/2, loss 1.0"]
        assert log.getvalue().count(f"train {last}/2") == 1


def test_a_log_ends_with_the_last_state_of_a_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    line = ProgressLine("{desc} {n_fmt}/{total_fmt}{postfix}", desc="train", total=2, smoothing=0)
    line.advance(1, "loss 2.0")  # not written, because it follows the previous line too soon
    line.advance(2, "loss 1.0")
    line.close()
    assert log.getvalue().count("train ") == 2
    assert "train 2/2, loss 1.0" in log.getvalue()

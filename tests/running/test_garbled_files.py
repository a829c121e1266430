"""Tests that every command reports a garbled file in a run folder with a one-line error that names the file."""

import os
import shutil
from pathlib import Path

import pytest

from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.commands.main import main
from tests.conftest import PRETRAIN, NewDatabase, tiny_overrides

GARBAGE = {
    "empty": b"",
    "binary": bytes(range(256)),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "list": b"- 1\n- 2\n",
    "brackets": b"[" * 100_000,
}


@pytest.fixture(scope="module")
def trained(
    scenes: Path, tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase
) -> tuple[list[str], Path]:
    folder = tmp_path_factory.mktemp("trained")
    new_database(folder)
    tiny = tiny_overrides(scenes, folder)
    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=2"]) == 0
    return tiny, find(folder / "runs", "elastic_pretrain").path


def copy_of(trained: tuple[list[str], Path], tmp_path: Path) -> tuple[list[str], RunFolder]:
    overrides = [*trained[0], f"runs={tmp_path / 'runs'}", "training.max_steps=3"]
    target = tmp_path / "runs" / "elastic_pretrain" / "copy"
    shutil.copytree(trained[1], target)
    return ["run", str(PRETRAIN), *overrides, "--resume", "elastic_pretrain/copy"], RunFolder(target)


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("name", ["config.yaml", "finished", "parents.json", "tracking.json", "checkpoints/last.ckpt"])
def test_resuming_names_the_garbled_file(
    trained: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    arguments, folder = copy_of(trained, tmp_path)
    (folder.path / name).write_bytes(content)
    weights = folder.weights.read_bytes()
    assert main(arguments) in (1, 2)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if name in line]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    assert folder.weights.read_bytes() == weights


@pytest.mark.parametrize("name", ["config.yaml", "tracking.json", "metrics.jsonl", "checkpoints/last.ckpt"])
@pytest.mark.timeout(60)
def test_resuming_does_not_wait_for_a_fifo_or_read_a_device(
    trained: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, folder = copy_of(trained, tmp_path)
    for replace in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (folder.path / name).unlink()
        replace(folder.path / name)
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert "Not a regular file" in error or "no run named elastic_pretrain/copy" in error


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("name", ["config.yaml", "weights.safetensors"])
def test_sampling_names_the_garbled_file(
    trained: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    _, folder = copy_of(trained, tmp_path)
    (folder.path / name).write_bytes(content)
    assert main(["sample", str(folder.path), "--out", str(tmp_path / "x.png")]) in (1, 2)
    error = capsys.readouterr().err
    assert name in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_garbled_journal_does_not_prevent_resuming(
    trained: tuple[list[str], Path], tmp_path: Path, content: bytes
) -> None:
    arguments, folder = copy_of(trained, tmp_path)
    folder.metrics.write_bytes(content + b"\n")
    assert main(arguments) == 0
    assert folder.finished_steps() == 3

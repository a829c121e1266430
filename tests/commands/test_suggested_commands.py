"""Tests that the commands that PocketDiT prints can be pasted into a shell, even with special characters in names."""

import shlex
from pathlib import Path

import pytest

from pocketdit.commands.main import main
from pocketdit.config.shell import setting
from tests.conftest import tiny_overrides

NASTY = "-a 'b' \"c\" #d e=f $g ${h} [i] {j: k}\nl"
NASTY_NAME = NASTY.replace("\n", " ")  # one line, because the command for resuming is part of a one-line error


def suggested(text: str, label: str) -> list[str]:
    """Return the words of the command that follows a label. The command ends at the first line break outside quotes."""
    words = shlex.shlex(text.partition(label)[2].strip(" "), posix=True)
    words.whitespace, words.whitespace_split, words.commenters = " ", True, ""
    result = []
    for word in words:
        result.append(word.rstrip("\n"))
        if word != result[-1]:
            break
    return result


def test_names_and_paths_survive_from_the_data_set_to_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert main(["data", "build", "scenes", "--train", "8", "--validation", "2", "--", NASTY]) == 0
    program, *run = suggested(capsys.readouterr().out, "train on it with:")
    assert program == "lightning"
    assert (tmp_path / NASTY / "dataset.json").is_file()

    _, *settings = tiny_overrides(Path(), tmp_path)  # all but the first override, which is the path of the data set
    settings += ["training.max_steps=1", setting("experiment", NASTY_NAME)]
    assert main([*run, *settings, f"--name={NASTY_NAME}"]) == 0
    output = capsys.readouterr().out
    folder = tmp_path / "runs" / NASTY_NAME / NASTY_NAME
    assert (folder / "finished").is_file()
    assert (folder / "config.yaml").is_file()

    _, *sample = suggested(output, "  next")
    assert main([*sample, "--out", "grid.png"]) == 0
    assert Path("grid.png").is_file()
    capsys.readouterr()

    assert main([*run, *settings, f"--name={NASTY_NAME}"]) == 2
    resume = suggested(capsys.readouterr().err.replace(", or", "\n"), "resume it with ")
    assert main([*run, *settings, *resume]) == 0
    assert "already finished" in capsys.readouterr().out

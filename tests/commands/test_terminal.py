"""Tests that command output contains no control characters or secrets, and that readers may close it early."""

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pocketdit.commands.main import main
from pocketdit.commands.terminal import clean_output, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jcleared", "\\x1b[2Jcleared"),
        ("a\x07b\x9b31m\x7f", "a\\x07b\\x9b31m\\x7f"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("50 %\rwith umlauts: äß, 日本\n\t", "50 %\rwith umlauts: äß, 日本\n\t"),
    ],
)
def test_control_characters_are_replaced(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_output_within_the_context_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with clean_output():
        print("a\x1bb http://me:hunter2@host")
        sys.stderr.writelines(["c\x1bd\n", "postgresql://me:hunter2@host/db\n"])
    assert out.getvalue() == "a\\x1bb http://me:***@host\n"
    assert err.getvalue() == "c\\x1bd\npostgresql://me:***@host/db\n"
    assert sys.stdout is out


def test_escape_sequences_in_a_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "\x1b]0;owned\x07", "a prompt"]) in (1, 2)
    error = capsys.readouterr().err
    assert "\\x1b]0;owned\\x07" in error
    assert "\x1b" not in error


def test_closed_output_is_not_an_error(tmp_path: Path) -> None:
    """Simulate ``lightning ... | head -1`` with a pipe that is closed before anything is written to it."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pocketdit", "init", "demo"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, cwd=tmp_path)
    os.close(write)
    assert done.stderr == ""
    assert (tmp_path / "demo" / "pocketdit.toml").is_file()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "status"), [("run nothing.yaml", 2), ("--version", 0), ("run -h", 0)])
def test_a_stream_that_is_closed_from_the_start_is_not_an_error(
    arguments: str, status: int, closed: str, tmp_path: Path
) -> None:
    command = f"{shlex.quote(sys.executable)} -m pocketdit {arguments} {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert ("no such file" in done.stderr) == (status == 2 and "2>" not in closed)
    assert bool(done.stdout) == (status == 0 and closed == "2>&-")


def test_characters_that_the_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1", write_through=True))
    with clean_output():
        print("café 模型")
    assert written.getvalue() == b"caf\xe9 \\u6a21\\u578b\n"

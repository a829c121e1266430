import subprocess
from pathlib import Path

import pytest

from pocketdit.tracking.git import revision


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    result = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


def test_revision_contains_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert revision(tmp_path) is None
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("ignored\n")
    assert revision(tmp_path) is None, "there must be no revision before the first commit"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")

    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "ignored").touch()
    assert revision(tmp_path) == {"commit": head, "dirty": False}
    (tmp_path / "new.py").touch()
    assert revision(tmp_path) == {"commit": head, "dirty": True}
    (tmp_path / "new.py").unlink()
    (tmp_path / ".gitignore").write_text("ignored\nmore\n")
    assert revision(tmp_path) == {"commit": head, "dirty": True}


def test_revision_is_none_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init")
    monkeypatch.setenv("PATH", "")
    assert revision(tmp_path) is None

import subprocess
from pathlib import Path

from pocketdit.tracking.git import revision


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_revision_names_the_commit_and_says_when_files_differ_from_it(tmp_path: Path) -> None:
    assert revision(tmp_path) is None
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("ignored\n")
    assert revision(tmp_path) is None, "before the first commit there is no revision"
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


def test_a_missing_git_command_is_no_revision(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    git(tmp_path, "init")
    monkeypatch.setenv("PATH", "")
    assert revision(tmp_path) is None

"""Which code a run was made with."""

import os
import subprocess
from pathlib import Path
from typing import TypedDict


class Revision(TypedDict):
    """``dirty``: files were changed or added since ``commit`` (ignored ones aside)."""

    commit: str
    dirty: bool


def revision(path: Path) -> Revision | None:
    """The git revision of the work tree that holds ``path``; None outside one, before the first commit, or
    where the git command is missing."""
    commit = _git(path, "rev-parse", "--verify", "HEAD")
    changes = _git(path, "status", "--porcelain")
    if commit is None or changes is None:
        return None
    return Revision(commit=commit, dirty=bool(changes))


def _git(path: Path, *arguments: str) -> str | None:
    # A look must not write: without this, `git status` refreshes the index and takes its lock.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(path), *arguments],
            capture_output=True, text=True, errors="replace", timeout=10, check=False, env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

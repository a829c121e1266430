"""Determines the Git revision of the code that a run uses."""

import os
import subprocess
from pathlib import Path
from typing import TypedDict


class Revision(TypedDict):
    """A commit and whether the working tree differs from it.

    Attributes:
        commit: The full hash of ``HEAD``.
        dirty: Whether files have been changed or added since ``commit``, except ignored files.
    """

    commit: str
    dirty: bool


def revision(path: Path) -> Revision | None:
    """Return the git revision of the working tree that contains ``path``.

    Returns None outside a working tree, before its first commit, or if git is not installed.
    """
    commit = _git(path, "rev-parse", "--verify", "HEAD")
    changes = _git(path, "status", "--porcelain")
    if commit is None or changes is None:
        return None
    return Revision(commit=commit, dirty=bool(changes))


def _git(path: Path, *arguments: str) -> str | None:
    # Without this setting, `git status` refreshes the index, which takes the repository's lock.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        result = subprocess.run(
            ["git", "-C", str(path), *arguments],
            capture_output=True, text=True, errors="replace", timeout=10, check=False, env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None

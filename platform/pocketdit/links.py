"""Refuse links that lead out of a folder. A run folder may come from someone else.

Such a link could make a command change a user's file, or copy it into images and bundles that are passed on.
"""

import os
from pathlib import Path

from pocketdit.errors import RunError


def leads_outside(path: Path, folder: Path) -> bool:
    """Return whether a path, after all links in it are followed, lies outside a folder."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def require_inside(path: Path, folder: Path) -> None:
    """Check that a file in a folder is not a link to a place outside the folder.

    Raises:
        RunError: The path leads outside the folder.
    """
    if leads_outside(path, folder):
        raise RunError(
            f"{path} is a link to {os.path.realpath(path)}, outside the folder {folder}; replace the link with a copy "
            "of what it refers to, or remove it"
        )


def require_no_links_outside(folder: Path) -> None:
    """Check that no link in a folder or its subfolders leads to a file or folder outside it.

    The folder itself may be a link. Links to devices are accepted, because they are refused when they are opened.

    Raises:
        RunError: A link leads outside the folder.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and (path.is_file() or path.is_dir() or not path.exists()):
            require_inside(path, folder)

"""Refuses symbolic links that lead out of a folder.

A run folder may have been created by someone else. A link in the folder could make a command overwrite one of the
user's own files, or copy that file into samples or bundles that the user then publishes.
"""

import os
from pathlib import Path

from pocketdit.errors import RunError


def leads_outside(path: Path, folder: Path) -> bool:
    """Return whether a path is outside a folder after all links in the path are resolved."""
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

    The folder itself may be a link. Links to devices are accepted here, because commands refuse to open devices.

    Raises:
        RunError: A link leads outside the folder.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and (path.is_file() or path.is_dir() or not path.exists()):
            require_inside(path, folder)

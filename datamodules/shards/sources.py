"""Lists the files in a user's folder, following links, so that every file is either used or reported."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.shards.images import IMAGE_SUFFIXES
from datamodules.shards.skips import SkippedImage

# For each split, a pattern for the names that users give its folder. With ``_NAME_ENDING`` and without regard to case,
# the patterns match, for example, train, val2017, test_set, and TrainImages.
_SPLIT_NAMES = {
    "train": "train|training",
    "validation": "val|valid|validation|dev",
    "test": "test|testing|eval",
}
_NAME_ENDING = r"[-_ ]?(set|split|data|images)?[-_ ]?\d*"


@dataclass
class Listing:
    """The files in a folder and its subfolders.

    Attributes:
        folder: The folder.
        images: Files with the suffix of an image, sorted.
        others: All other files, sorted.
        hidden: Number of files and folders whose names start with a dot.
        skipped: Folders and other entries that cannot be read.
    """

    folder: Path
    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    hidden: int = 0
    skipped: list[SkippedImage] = field(default_factory=list)


def list_folder(folder: Path, exclude: Path | None = None) -> Listing:
    """List a folder and its subfolders, following links. A folder to which several links lead is listed once.

    Args:
        folder: The folder.
        exclude: A folder to ignore, for example because it contains the output.
    """
    listing = Listing(folder)
    seen = {_identity(exclude)} if exclude is not None and exclude.is_dir() else set()
    pending, links = [folder], list[Path]()
    while pending or links:
        current = pending.pop() if pending else links.pop()
        try:
            identity = _identity(current)
            if identity in seen:
                if current.is_symlink():
                    reason = "not read: it is a link to a folder that is already read"
                    listing.skipped.append(SkippedImage(name_of(current, folder), reason))
                continue
            seen.add(identity)
            _list_entries(current, listing, pending, links)
        except OSError as error:
            listing.skipped.append(SkippedImage(name_of(current, folder), f"cannot be read ({error.strerror})"))
    listing.images.sort()
    listing.others.sort()
    return listing


def _list_entries(current: Path, listing: Listing, pending: list[Path], links: list[Path]) -> None:
    for path in sorted(current.iterdir(), reverse=True):
        if path.name.startswith("."):
            listing.hidden += 1
        elif path.is_dir():
            (links if path.is_symlink() else pending).append(path)
        elif not path.is_file():
            reason = "a link to a file that does not exist" if path.is_symlink() else "neither a file nor a folder"
            listing.skipped.append(SkippedImage(name_of(path, listing.folder), reason))
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            listing.images.append(path)
        else:
            listing.others.append(path)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def path_text(path: Path) -> str:
    r"""Return a path as text, in which invalid UTF-8 bytes and control characters are escaped, as in \xe9 and \n."""
    return "".join(map(_printable, path.as_posix()))


def _printable(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # Python's representation of the bytes 0x80 to 0xff in a name that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:x}"
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def is_file(path: Path) -> bool:
    """Return whether a file exists. Invalid paths, such as paths that are too long, do not raise an error."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def name_of(path: Path, folder: Path) -> str:
    """Return a path as text (see ``path_text``), relative to the folder if the path is inside the folder."""
    return path_text(path.relative_to(folder) if path.is_relative_to(folder) else path)


def split_of_folders(names: Iterable[str]) -> dict[str, str | None]:
    """Determine the splits of a user's folders from the names of the folders.

    Args:
        names: Names of sibling folders that contain images.

    Returns:
        A mapping from folder names to "train", "validation", or None for folders to leave out. It is empty unless at
        least one folder is for training and one is for validation or tests. Test images are used for validation if no
        folder is for validation.
    """
    roles = {name: role for name in names if (role := _role(name))}
    if "train" not in roles.values() or len(set(roles.values())) < 2:
        return {}
    without_validation = "validation" not in roles.values()
    splits = {"train": "train", "validation": "validation", "test": "validation" if without_validation else None}
    return {name: splits[role] for name, role in roles.items()}


def _role(name: str) -> str | None:
    patterns = {role: f"({names}){_NAME_ENDING}" for role, names in _SPLIT_NAMES.items()}
    return next((role for role, pattern in patterns.items() if re.fullmatch(pattern, name, re.IGNORECASE)), None)


def count_kinds(paths: Iterable[Path]) -> str:
    """Return the number of files per suffix, for example "3 .svg, 1 .mp4"."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())

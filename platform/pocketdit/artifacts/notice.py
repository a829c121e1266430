"""The notice of a run, which names the authors of its training data if the license of the data requires this.

The notice follows the weights: a run inherits the notices of its parents, and samples and bundles include its notice.
"""

from collections.abc import Iterable
from pathlib import Path

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.errors import RunError
from pocketdit.files import write_atomically
from pocketdit.links import require_inside

NOTICE = "NOTICE.txt"


def read_notice(folder: RunFolder) -> str:
    """Return a run's notice, one line per data set, or "" if no attribution is required.

    Raises:
        RunError: The file cannot be read, or it is a link that leads out of the run's folder.
    """
    return notice_in(folder.path)


def notice_in(folder: Path) -> str:
    """Return the notice in the folder of a run or a bundle, or "" if there is none.

    Raises:
        RunError: The file cannot be read, or it is a link that leads out of the folder.
    """
    path = folder / NOTICE
    require_inside(path, folder)  # the notice is copied to samples and bundles, which may be published
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error


def join_notices(*notices: str) -> str:
    """Combine several notices without repeating a line."""
    lines = dict.fromkeys(line for notice in notices for line in notice.splitlines() if line)
    return "".join(f"{line}\n" for line in lines)


def write_notice(folder: RunFolder, attribution: str | None, parents: Iterable[RunFolder]) -> None:
    """Write a run's notice if its data or the data of its parents must be attributed.

    Args:
        folder: The run.
        attribution: The attribution of the run's own data, or None if none is required.
        parents: The parent runs, whose weights the run uses.
    """
    if notice := join_notices(attribution or "", *map(read_notice, parents)):
        write_atomically(folder.path / NOTICE, notice)


def copy_notice(notice: str, bundle: Path) -> None:
    """Write a run's notice, unless it is empty, to a bundle that contains the run's weights."""
    if notice:
        (bundle / NOTICE).write_text(notice, encoding="utf-8")

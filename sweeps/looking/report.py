"""A study's pictures: files in its folder, and artefacts of its run in MLflow."""

from collections.abc import Sequence
from pathlib import Path

from sweeps.looking.read import read
from sweeps.settings import Sweep
from sweeps.store import Store


def report(sweep: Sweep, store: Store) -> list[Path]:
    """Write ``study.html`` (all pictures, interactive, one file that needs no network) and each picture as a PNG into
    ``sweep.folder``; works on a study that still runs. Returns the files, none where no trial has finished."""
    from pocketdit.files import write_atomically
    from sweeps.looking import interactive, pictures
    from sweeps.looking.importance import shares

    views = read(sweep, store)
    if not views.search.results:
        return []
    matters = shares(views.search)
    figures = {"pareto": pictures.pareto(views.furthest), "slices": pictures.slices(views.search),
               "parallel": pictures.parallel(views.search)}  # fmt: skip
    if matters:
        figures["importance"] = pictures.importance(views.search, matters)
    page = write_atomically(sweep.folder / "study.html", interactive.page(views, matters))
    return [page, *(pictures.save(figure, sweep.folder / f"{name}.png") for name, figure in figures.items())]


def publish(sweep: Sweep, files: Sequence[Path]) -> None:
    """Send files of ``sweep.folder`` to the study's run in MLflow again, where it has one.

    Raises ``RunError`` where MLflow does not answer; ``lightning sync`` sends them then.
    """
    from pocketdit.tracking import journal, target
    from pocketdit.tracking.sync import sync

    if target.load(sweep.folder) is None:
        return
    log = journal.Journal(sweep.folder / journal.FILE_NAME)
    for file in files:
        log.log_artifact(str(file.relative_to(sweep.folder)))
    log.close()
    sync(sweep.folder)

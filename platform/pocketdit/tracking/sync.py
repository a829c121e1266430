"""Sends afterwards what a run could not send to MLflow while it ran."""

from pathlib import Path

from pocketdit.errors import RunError
from pocketdit.tracking import journal, target
from pocketdit.tracking.shipper import Sender, unsent


def sync(run_folder: Path) -> int:
    """Sends what is unsent of the run in ``run_folder``; returns how many events MLflow took.

    A run that was deleted in MLflow is made again and sent whole. ``RunError`` where there is no such run, or
    where MLflow does not answer: what was sent until then stays sent.
    """
    stored = target.load(run_folder)
    if stored is None or not (run_folder / journal.FILE_NAME).exists():
        raise RunError(f"{run_folder} is not the folder of a tracked run: it holds no {target.FILE_NAME}")
    try:
        return Sender(run_folder).send_all()
    except Exception as error:  # a store, a proxy or a network may raise anything
        raise RunError(f"{unsent(run_folder)} events not sent to {stored.uri}: {_root_cause(error)}") from error


def _root_cause(error: BaseException) -> str:
    """What the system said, without the layers of HTTP libraries and stores that wrap it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__

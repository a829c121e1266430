"""Sends MLflow the events of a run that could not be sent while it was running."""

from pathlib import Path

from pocketdit.errors import RunError
from pocketdit.tracking import journal, target
from pocketdit.tracking.shipper import Sender, count_unsent


def sync(run_folder: Path) -> int:
    """Send the unsent events of the run in ``run_folder``.

    A run that was deleted in MLflow is created again and sent in full.

    Returns:
        The number of events that MLflow accepted.

    Raises:
        RunError: If the folder does not belong to a tracked run, or MLflow does not respond. Events sent before
            the failure stay sent.
    """
    stored = target.load(run_folder)
    if stored is None or not (run_folder / journal.FILE_NAME).exists():
        missing = target.FILE_NAME if stored is None else journal.FILE_NAME
        raise RunError(f"{run_folder} is not the folder of a tracked run: it does not contain {missing}")
    try:
        return Sender(run_folder).send_all()
    except Exception as error:  # stores, proxies and networks can raise any exception
        unsent = count_unsent(run_folder)
        raise RunError(f"{unsent} events were not sent to {stored.uri}: {_root_cause(error)}") from error


def _root_cause(error: BaseException) -> str:
    """Return the original message, without the layers that HTTP libraries and stores wrap around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__

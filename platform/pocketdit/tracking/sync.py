"""Sends MLflow the events that could not be sent during the run."""

from pathlib import Path

from pocketdit.config.experiment import Tracking
from pocketdit.config.project import FILE_NAME as PROJECT_FILE
from pocketdit.config.project import read_project
from pocketdit.config.secrets import is_masked, mask
from pocketdit.config.shell import command_line, operand
from pocketdit.errors import ConfigError, RunError
from pocketdit.tracking import journal, target
from pocketdit.tracking.failures import describe, root_cause
from pocketdit.tracking.shipper import Sender, count_unsent


def sync(run_folder: Path, uri: str | None = None) -> int:
    """Send the unsent events of the run in ``run_folder`` to MLflow.

    If the run was deleted in MLflow, it is created again and sent in full. Because the folder may come from someone
    else, it cannot choose a server that the user does not trust, and files outside the folder are not sent.

    Args:
        run_folder: The run folder.
        uri: Tracking URI chosen by the user. Defaults to the URI stored in the folder, which the user must trust.

    Returns:
        The number of events that MLflow accepted.

    Raises:
        ConfigError: The user does not trust the stored URI.
        RunError: The folder is not that of a tracked run, the journal refers to a file outside the folder, or MLflow
            does not respond. Events that were sent before the failure are not sent again.
    """
    stored = target.load(run_folder)
    if stored is None or not (run_folder / journal.FILE_NAME).exists():
        missing = target.FILE_NAME if stored is None else journal.FILE_NAME
        raise RunError(f"{run_folder} is not the folder of a tracked run: it does not contain {missing}")
    if uri is None:
        require_trusted_tracker(run_folder, stored.uri)
        uri = stored.uri
    journal.require_own_files(run_folder)
    target.open_target(run_folder, uri, stored.project, stored.run_name)
    try:
        return Sender(run_folder, target.absolute_uri(uri)).send_all()
    except RunError:
        raise
    except Exception as error:  # a store, a proxy, or the network can cause any exception
        unsent = count_unsent(run_folder)
        reason = mask(describe(root_cause(error), uri))
        raise RunError(f"{unsent} events were not sent to {mask(uri)}: {reason}") from error


def sync_command(run_folder: Path, uri: str) -> str:
    """Return the command that sends a run's events to ``uri``. A URI with a masked password is replaced by "URI"."""
    if uri in trusted_trackers() and not is_masked(uri):
        return command_line("sync", operand(run_folder))
    return command_line("sync", operand(run_folder), "--to", "URI" if is_masked(uri) else uri)


def trusted_trackers() -> set[str]:
    """Return the default database and the trackers in ``pocketdit.toml``.

    A database next to the run is not trusted, because it decides where MLflow stores the files of its runs.
    """
    return {mask(target.absolute_uri(uri)) for uri in (Tracking().uri, *read_project().trackers)}


def require_trusted_tracker(run_folder: Path, uri: str) -> None:
    """Check that a run may be sent to the tracking URI stored in its folder.

    Raises:
        ConfigError: The user does not trust the URI, or its password is masked.
    """
    if is_masked(uri):
        raise ConfigError(
            f"{run_folder} was tracked at {uri}; pass the complete URI with: {sync_command(run_folder, uri)}"
        )
    if uri not in trusted_trackers():
        raise ConfigError(
            f"{run_folder} was tracked at {uri}, which is not a trusted tracker; if you trust it, send the run with: "
            f"{sync_command(run_folder, uri)}, or add it to trackers under [trust] in {PROJECT_FILE}"
        )

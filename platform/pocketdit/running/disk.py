"""Errors for checkpoint files that cannot be written or read."""

from pathlib import Path

from torch.distributed.checkpoint.api import CheckpointException

from pocketdit.errors import RunError


def disk_error(path: Path, error: BaseException) -> RunError:
    """Return the error for a file that could not be written."""
    error = first_cause(error)
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, OSError):
        reason = error.strerror or reason
    elif reason.startswith("[enforce fail"):  # torch's writer reports positions in the file instead of the cause
        reason = "only part of it could be written"
    return RunError(
        f"could not write {path} ({reason}); free some disk space, then run the same command with --resume to continue "
        "from the previous checkpoint"
    )


def first_cause(error: BaseException) -> BaseException:
    """Return the error of the first process that failed, if torch has collected the errors of all processes."""
    return next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error

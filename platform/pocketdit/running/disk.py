"""Errors for checkpoint files that cannot be written or read."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException

from pocketdit.errors import RunError

RESUME = "run the same command with --resume to continue from the previous checkpoint"
NO_SPACE = (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # None is the number of an error from ``save_object``


@contextmanager
def explain_write_errors(path: Path, then: str = RESUME) -> Iterator[None]:
    """Raise ``RunError`` if the file or folder ``path`` cannot be written inside the context.

    Args:
        path: The path, for the message.
        then: What to do once the path can be written.
    """
    try:
        yield
    except (OSError, CheckpointException) as error:
        raise disk_error(path, error, then) from error


def disk_error(path: Path, error: BaseException, then: str) -> RunError:
    """Return the error for a file or folder that could not be written. See ``explain_write_errors``."""
    cause = first_cause(error)
    reason, remedy = (str(cause).splitlines() or [type(cause).__name__])[0], "free some disk space"
    if reason.startswith("[enforce fail"):  # torch's zip writer reports positions in the file instead of the cause
        reason = "only part of it could be written"
    elif isinstance(cause, OSError):
        reason = cause.strerror or reason
        if cause.errno not in NO_SPACE:
            remedy = "make sure that it can be written"
    return RunError(f"could not write {path} ({reason}); {remedy}, then {then}")


def save_object(value: object, target: Any) -> None:
    """Save an object to a file or a stream with ``torch.save``.

    Raises:
        OSError: The object cannot be written. torch itself reports a full disk as a ``RuntimeError``.
    """
    try:
        torch.save(value, target)
    except RuntimeError as error:
        raise OSError(str(error)) from error


def first_cause(error: BaseException) -> BaseException:
    """Return the error of the first process that failed, if torch has collected the errors of all processes."""
    return next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error

"""Describes failures in MLflow and its databases."""

import re

from pocketdit.tracking.target import sqlite_path

# Messages of SQLite and MLflow for a database whose creation was interrupted, or whose file is damaged.
_DAMAGED_DATABASE = re.compile(
    "already exists|no such table|no such column|duplicate column name|database disk image is malformed"
    "|file is not a database|out-of-date database schema|locate revision",
    re.IGNORECASE,
)


def root_cause(error: BaseException) -> str:
    """Return the message of the original error, which HTTP libraries and stores wrap in their own errors."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


def describe(text: str, uri: str) -> str:
    """Return a failure's message, with the remedy if the database is damaged.

    Args:
        text: Message of the original error, or the log of the server.
        uri: Tracking URI.
    """
    path, cause = sqlite_path(uri), _DAMAGED_DATABASE.search(text)
    if path is None or cause is None:
        return text
    line = next(line.strip() for line in text.splitlines() if _DAMAGED_DATABASE.search(line))
    return f"{path} is damaged or incomplete ({line}); move it elsewhere, and a new database will be created"

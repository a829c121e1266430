"""Errors that the command line reports as a single line, without a traceback."""


class UserError(Exception):
    """A failure that the user can fix. The message says what is wrong, where, and how to fix it.

    Attributes:
        status: Exit status of the command line.
    """

    status = 1


class ConfigError(UserError):
    """A usage or configuration error, detected before anything expensive is loaded."""

    status = 2


class RunError(UserError):
    """A run that cannot continue, for example because of a missing file, a full disk, or a non-finite loss."""


class RunInterruptedError(RunError):
    """A run that was interrupted by the user or the scheduler. It can be resumed from its last checkpoint."""

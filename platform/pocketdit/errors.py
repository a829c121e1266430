"""Errors whose message is all that the user needs. The command line prints it as one line, without a traceback."""


class UserError(Exception):
    """A failure that the user can fix. The message says what is wrong, where, and what to do.

    Attributes:
        status: Exit status of the command line.
    """

    status = 1


class ConfigError(UserError):
    """A usage or configuration error, detected before anything expensive is loaded."""

    status = 2


class RunError(UserError):
    """A run that cannot continue: a missing file, a full disk, a loss that is not finite."""


class RunInterruptedError(RunError):
    """A run that the user or the scheduler interrupted. Its last checkpoint is complete, so it can be resumed."""

"""Errors whose message is all a user needs: the command line prints the one line, never a traceback."""


class UserError(Exception):
    """A failure that the user can act on. The message says what is wrong, where, and what to do next."""

    status = 1


class ConfigError(UserError):
    """Wrong use or configuration; found before anything heavy is loaded."""

    status = 2


class RunError(UserError):
    """A run that could not go on: a missing file, a full disk, a loss that is not finite."""


class Stopped(RunError):
    """A run that was told to stop; what it wrote last is whole, and it can be gone on with."""

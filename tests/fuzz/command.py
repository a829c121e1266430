"""Runs a command in this process and checks that it did not crash."""

import contextlib
import io
from typing import NamedTuple

from pocketdit.commands.main import main


class Output(NamedTuple):
    """The exit status of a command and the lines that it printed."""

    status: int
    lines: list[str]


def run_command(*arguments: object) -> Output:
    """Run ``lightning`` in this process and check that it did not fail with a traceback.

    Raises:
        AssertionError: See ``checked``.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            status = int(error.code or 0)
    return checked(status, printed.getvalue())


def checked(status: int, text: str) -> Output:
    """Check what a command printed, and return it.

    Raises:
        AssertionError: The command printed a traceback, or it failed without an error message.
    """
    text.encode()  # fails if the text contains characters that cannot be printed
    assert "Traceback" not in text, text
    lines = text.splitlines()
    is_reported = bool(lines) and lines[-1].startswith(("lightning ", "lightning: error: "))
    assert status == 0 or (status in (1, 2) and is_reported), f"{status}\n{text}"
    return Output(status, lines)

"""What commands print: without the control characters of other people's text, and without secrets.

Captions, names of files in archives and run names come from others. Escape sequences in them could change the terminal
or hide text.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from pocketdit.config.secrets import mask

# Progress lines need the carriage return.
_KEPT = "\n\r\t"
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _KEPT
}  # C0, delete, C1
# Characters that reverse the direction of text, and so can make a name look like another.
_DIRECTIONS = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_TABLE = _CONTROLS | _DIRECTIONS


def printable(text: str) -> str:
    """Replace control characters by their escape codes."""
    return text.translate(_TABLE)


class OutputClosedError(Exception):
    """The program that reads the output, such as ``head``, has ended."""


class _CleanStream:
    """A text stream whose output is printable and free of secrets; everything else is passed on to the stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(printable(mask(text)))
        except BrokenPipeError as error:
            raise OutputClosedError from error
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError as error:
            raise OutputClosedError from error

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def clean_output() -> Iterator[None]:
    """Clean what is printed within the context, which ends early if nobody reads the output any more."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _CleanStream(sys.stdout), _CleanStream(sys.stderr)  # type: ignore[assignment]
    try:
        yield
        sys.stdout.flush()
    except OutputClosedError:
        # Python flushes the stream again when it exits, and would report the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), streams[0].fileno())
    finally:
        sys.stdout, sys.stderr = streams

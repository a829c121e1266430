"""Cleans the output of commands: escapes control characters and masks secrets.

Captions, run names and file names in archives may come from other people. Control characters in them could manipulate
the terminal or hide text.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pocketdit.config.secrets import mask

# Progress bars use carriage returns.
_KEPT = "\n\r\t"
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _KEPT
}  # the control characters: C0, delete, and C1
# Characters that change the direction of text and can make one name look like another.
_DIRECTIONS = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
# Surrogates, which cannot be encoded. Python uses them for bytes of file names that are not valid UTF-8, for example.
_SURROGATES = {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}
_TABLE = _CONTROLS | _DIRECTIONS | _SURROGATES


def printable(text: str) -> str:
    """Replace control characters, direction marks and surrogates with their escape sequences."""
    return text.translate(_TABLE)


class OutputClosedError(Exception):
    """The program that reads the output, such as ``head``, has exited."""


class _CleanStream:
    """A wrapper around a text stream that writes printable text without secrets.

    Characters that the stream's encoding cannot represent are replaced with their escape sequences.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        clean = printable(mask(text)).encode(encoding, "backslashreplace").decode(encoding)
        try:
            self._stream.write(clean)
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
    """Clean the output within the context. If the output is closed, the context is exited early without an error.

    If the command was started with a closed stream (``>&-``), which Python represents as None, its output is discarded.
    """
    streams = sys.stdout, sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        sys.stdout, sys.stderr = (_CleanStream(stream or nothing) for stream in streams)  # type: ignore[assignment]
        try:
            yield
            sys.stdout.flush()
        except OutputClosedError:
            # Python flushes the stream again on exit and would report the closed pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), streams[0].fileno())
        finally:
            sys.stdout, sys.stderr = streams

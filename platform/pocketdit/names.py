"""Validates folder names and prompts, and makes text from other sources safe to print."""

_MAX_LENGTH = 500


def is_plain_name(name: str) -> bool:
    """Return whether a name is valid for a folder: not empty, without slashes, and without a leading dot."""
    return bool(name) and "/" not in name and not name.startswith(".")


def require_unicode(text: str) -> None:
    """Check that a prompt or its ID can be encoded as UTF-8, so that it can be written to a file.

    Python represents invalid UTF-8 bytes on the command line, and unpaired surrogate escapes in JSON, as lone
    surrogates, which cannot be encoded.

    Raises:
        ValueError: The text contains a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{one_line(text)} is not valid UTF-8; encode it as UTF-8") from None


def one_line(text: str) -> str:
    r"""Return text as a single printable line.

    Control characters and invalid UTF-8 bytes are replaced with escapes such as \n and \udce9. Long text is truncated.
    """
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return line if len(line) <= _MAX_LENGTH else f"{line[: _MAX_LENGTH - 3]}..."

"""Reads text files line by line."""

from pathlib import Path

from pocketdit.errors import ConfigError


def read_text(path: Path, source: str = "") -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Args:
        path: The file.
        source: Where to get the correct file, for error messages.

    Raises:
        ConfigError: The file cannot be read or is not UTF-8 text.
    """
    remedy = f"; {source}" if source else ""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}){remedy}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text{remedy or '; save it as UTF-8'}") from error


def read_lines(path: Path, source: str = "") -> list[str]:
    """Read the lines of a UTF-8 file.

    Unlike ``str.splitlines``, this function splits only at line feeds, because form feeds and Unicode's line separators
    may occur in the middle of a prompt or a JSON string.

    Args:
        path: The file.
        source: Where to get the correct file, for error messages.

    Raises:
        ConfigError: See ``read_text``.
    """
    return read_text(path, source).split("\n")

"""The optional dependency coremltools: check that it is installed, and silence it."""

import logging
from importlib.util import find_spec

from pocketdit.errors import ConfigError


def require_coremltools() -> None:
    """Raise ``ConfigError`` if coremltools is not installed."""
    if find_spec("coremltools") is None:
        raise ConfigError("coremltools is not installed; install it with: pip install 'pocketdit[export]'")


def silence_coremltools() -> None:
    """Disable log messages up to WARNING: on import, coremltools warns about missing libraries on Linux."""
    logging.disable(logging.WARNING)

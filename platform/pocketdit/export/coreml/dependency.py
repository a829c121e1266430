"""Check that the optional dependency coremltools is installed, and silence its log messages."""

import logging
from importlib.util import find_spec

from pocketdit.errors import ConfigError


def require_coremltools() -> None:
    """Check that coremltools is installed.

    Raises:
        ConfigError: coremltools is not installed.
    """
    if find_spec("coremltools") is None:
        raise ConfigError("coremltools is not installed; install it with: pip install 'pocketdit[export]'")


def silence_coremltools() -> None:
    """Hide log messages of coremltools up to the level WARNING.

    When coremltools is imported on Linux, it warns about missing libraries. Warnings of other loggers, such as warnings
    about damaged samples, remain visible.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)

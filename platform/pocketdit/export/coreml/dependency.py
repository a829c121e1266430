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
    """Disable coremltools' own log messages up to the level WARNING.

    When coremltools is imported on Linux, it warns about missing libraries. Other loggers keep their warnings, such as
    those about damaged samples.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)

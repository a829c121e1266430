"""Check that the optional dependency Core AI is installed, without importing it, and silence its warning."""

import warnings
from importlib.util import find_spec

from pocketdit.errors import ConfigError


def require_coreai() -> None:
    """Check that Core AI's converter and runtime are installed.

    Raises:
        ConfigError: The converter or the runtime is not installed.
    """
    if missing := [name for name in ("coreai", "coreai_torch") if find_spec(name) is None]:
        raise ConfigError(
            f"{missing[0]} is not installed; on Linux (x86-64, glibc 2.34) or macOS 26 (Apple silicon), "
            "install it with: pip install 'pocketdit[coreai]'"
        )


def silence_coreai() -> None:
    """Hide coreai-torch's warning about the torch version, which appears even for CPU builds of validated versions."""
    warnings.filterwarnings("ignore", "coreai-torch has only been validated with torch")

"""Check that the optional dependency LiteRT is installed, without importing it."""

from importlib.util import find_spec

from pocketdit.errors import ConfigError


def require_litert() -> None:
    """Check that LiteRT is installed.

    Raises:
        ConfigError: LiteRT is not installed.
    """
    if missing := [name for name in ("litert_torch", "ai_edge_litert") if find_spec(name) is None]:
        raise ConfigError(f"{missing[0]} is not installed; install it with: pip install 'pocketdit[litert]'")

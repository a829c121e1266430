"""Check that the optional dependency LiteRT is installed, without importing it."""

from importlib.util import find_spec

from pocketdit.errors import ConfigError


def require_litert() -> None:
    """Check that LiteRT's converter and its runtime are installed.

    Raises:
        ConfigError: The converter or the runtime is not installed.
    """
    _require("litert_torch", "pocketdit[litert]")
    require_litert_runtime()


def require_litert_runtime() -> None:
    """Check that LiteRT's runtime, which executes bundles, is installed. The converter is not required.

    Raises:
        ConfigError: The runtime is not installed.
    """
    _require("ai_edge_litert", "ai-edge-litert")


def _require(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise ConfigError(f"{module} is not installed; install it with: pip install '{package}'")

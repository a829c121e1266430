"""Names of the files and packages in an export bundle, and the format of its manifest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketdit.errors import ConfigError

MANIFEST = "manifest.json"
"""The file with the information that an app needs. A folder that contains this file is an export bundle."""

CENSUS = "census.json"
"""The cost of each operation in the graph of the transformer (Core ML and Core AI only)."""

LATENCY = "latency.jsonl"
"""Predicted and measured latencies, one record per line."""

TRANSFORMER, TEXT_PROJECTION, DECODER = "transformer", "text_projection", "decoder"
"""Names of packages. The suffix of their files depends on the target."""

FORMAT = 2
"""Format version of the manifest and the packages. It is increased if older programs could misread new bundles."""


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is an export bundle."""
    return (folder / MANIFEST).is_file()


def require_known_format(manifest: Mapping[str, Any], folder: Path) -> None:
    """Check that this version of PocketDiT can read a bundle. A manifest without a format number passes this check.

    Raises:
        ConfigError: Another version of PocketDiT wrote the bundle.
    """
    found = manifest.get("format", FORMAT)
    if found != FORMAT:
        action = "export the bundle again" if found == 1 else "update PocketDiT, or export the bundle again"
        raise ConfigError(
            f"{folder}: the bundle has format {found!r}, but this version of PocketDiT reads format {FORMAT}; {action}"
        )

"""Open the manifest of an exported bundle of packages."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pocketdit.config.errors import InvalidValueError
from pocketdit.config.override import parse
from pocketdit.config.typed import convert
from pocketdit.errors import ConfigError, RunError
from pocketdit.export.common.bundle_files import MANIFEST, require_known_format
from pocketdit.export.common.settings import BaseExport
from pocketdit.export.common.subject import Subject
from pocketdit.files import require_regular_file

Settings = TypeVar("Settings", bound=BaseExport)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a bundle of packages.

    Raises:
        ConfigError: The folder is not a bundle of packages, or the bundle has another format version.
    """
    try:
        require_regular_file(folder / MANIFEST)
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        require_known_format(manifest, folder)
        _ = manifest["settings"]["kind"], manifest["packages"], manifest["weights"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{folder}: not a bundle of packages (no valid {MANIFEST})") from error
    return manifest


def exported_settings(manifest: dict[str, Any], kind: type[Settings], overrides: list[str]) -> Settings:
    """Return the settings of the export with ``overrides`` applied.

    Raises:
        ConfigError: An override or a stored setting is invalid.
    """
    values = manifest["settings"]
    try:
        for override in overrides:
            parse(override).apply(values)
        settings: Settings = convert(values, kind, "")
        return settings
    except InvalidValueError as error:
        raise ConfigError(str(error)) from None


def require_same_weights(manifest: dict[str, Any], subject: Subject, folder: Path) -> None:
    """Check that a run still has the weights that were exported.

    Raises:
        RunError: The weights have changed.
    """
    if subject.run == manifest["weights"]["run"] and subject.weights != manifest["weights"]["sha256"]:
        raise RunError(
            f"{folder}: the weights of {subject.run} have changed since this bundle was exported; export it again"
        )


def require_packages(manifest: dict[str, Any], folder: Path) -> None:
    """Check that a bundle contains all packages that its manifest lists.

    Raises:
        RunError: A package is missing.
    """
    files = [entry["file"] for entry in manifest["packages"].values()]
    if missing := [file for file in files if not (folder / file).is_dir()]:
        raise RunError(f"{folder}: does not contain {', '.join(missing)}; export the bundle again")

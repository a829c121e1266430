"""Open an exported Core ML bundle, and verify it for ``lightning verify``."""

import json
from pathlib import Path
from typing import Any

from pocketdit.config.errors import InvalidValueError
from pocketdit.config.override import parse
from pocketdit.config.typed import convert
from pocketdit.errors import ConfigError, RunError
from pocketdit.export.common.bundle_files import MANIFEST, TRANSFORMER, require_known_format
from pocketdit.export.common.census_report import census_table, require_budget
from pocketdit.export.common.decoder import load_with_decoder
from pocketdit.export.common.text_graphs import load_texts
from pocketdit.export.coreml.census import take_census
from pocketdit.export.coreml.package import Package
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.coreml.verify import require_equal
from pocketdit.files import require_regular_file


def open_packages(folder: Path) -> dict[str, Package]:
    """Open all packages in a bundle and return them by name."""
    return {path.stem: Package(path) for path in sorted(folder.glob("*.mlpackage"))}


def verify_bundle(folder: Path, overrides: list[str]) -> None:
    """Compare a bundle with the run from which it was exported, and check its budget.

    Args:
        folder: Path of the bundle.
        overrides: Changes to the settings of the export, such as run=RUN.

    Raises:
        ConfigError: The folder is not a Core ML bundle, or an override is invalid.
        RunError: The bundle is damaged, differs from the run, or exceeds its budget.
    """
    manifest = _read_manifest(folder)
    settings = _exported_settings(manifest, overrides)
    packages = open_packages(folder)
    if missing := [name for name in manifest["packages"] if name not in packages]:
        names = ", ".join(f"{name}.mlpackage" for name in missing)
        raise RunError(f"{folder}: does not contain {names}; export the bundle again")
    census = take_census(packages[TRANSFORMER])
    print(f"{census_table(census)}\n")
    subject = load_with_decoder(settings, keep_lora=settings.lora == "kept")
    if subject.run == manifest["weights"]["run"] and subject.weights != manifest["weights"]["sha256"]:
        raise RunError(
            f"{folder}: the weights of {subject.run} have changed since this bundle was exported; export it again"
        )
    require_equal(packages, subject, load_texts(settings, subject), settings)
    require_budget(census, settings.budget)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        require_regular_file(folder / MANIFEST)
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        require_known_format(manifest, folder)
        _ = manifest["settings"], manifest["packages"], manifest["weights"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{folder}: not a Core ML bundle (no valid {MANIFEST})") from error
    return manifest


def _exported_settings(manifest: dict[str, Any], overrides: list[str]) -> CoreMLExport:
    """Return the settings of the export, changed by ``overrides``."""
    values = manifest["settings"]
    try:
        for override in overrides:
            parse(override).apply(values)
        settings: CoreMLExport = convert(values, CoreMLExport, "")
        return settings
    except InvalidValueError as error:
        raise ConfigError(str(error)) from None

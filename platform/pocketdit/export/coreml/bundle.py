"""Open an exported Core ML bundle, and verify it for ``lightning verify``."""

from pathlib import Path

from pocketdit.export.common.bundle_files import TRANSFORMER
from pocketdit.export.common.census_report import census_table, require_budget
from pocketdit.export.common.decoder import load_with_decoder
from pocketdit.export.common.open_manifest import (
    exported_settings,
    read_manifest,
    require_packages,
    require_same_weights,
)
from pocketdit.export.common.text_graphs import load_texts
from pocketdit.export.coreml.census import take_census
from pocketdit.export.coreml.package import Package
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.coreml.verify import require_equal


def open_packages(folder: Path) -> dict[str, Package]:
    """Open all packages in a bundle, and return them in a dictionary keyed by name."""
    return {path.stem: Package(path) for path in sorted(folder.glob("*.mlpackage"))}


def verify_bundle(folder: Path, overrides: list[str]) -> None:
    """Compare a bundle with the run from which it was exported, and check its budget.

    Args:
        folder: Path of the bundle.
        overrides: Changes to the settings of the export, such as run=RUN.

    Raises:
        ConfigError: The folder is not a bundle, or an override is invalid.
        RunError: The bundle is damaged, differs from the run, or exceeds its budget.
    """
    manifest = read_manifest(folder)
    settings = exported_settings(manifest, CoreMLExport, overrides)
    require_packages(manifest, folder)
    packages = open_packages(folder)
    census = take_census(packages[TRANSFORMER])
    print(f"{census_table(census)}\n")
    subject = load_with_decoder(settings, keep_lora=settings.lora == "kept")
    require_same_weights(manifest, subject, folder)
    require_equal(packages, subject, load_texts(settings, subject), settings)
    require_budget(census, settings.budget)

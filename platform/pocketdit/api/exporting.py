"""Implements ``pocketdit.export``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from pocketdit.api.configuration import Config, Overrides, as_file, as_overrides
from pocketdit.config.load import Loaded
from pocketdit.config.load import load as load_config
from pocketdit.config.override import Override

if TYPE_CHECKING:
    from pocketdit.export.litert.export import ExportedModel
    from pocketdit.export.settings import Export


def export(settings: Config, overrides: Overrides = ()) -> Path:
    """Export one width of a run to Core ML, Core AI or LiteRT, and compare the result with PyTorch.

    Args:
        settings: YAML file of the export, or its content.
        overrides: Changes to the configuration, such as ``{"run": "elastic_pretrain", "width": 0.5}``.

    Returns:
        The folder of the bundle.

    Raises:
        ConfigError: The configuration is invalid, or the package for this format is not installed.
        UserError: The outputs of the exported network deviate too much from PyTorch's, or its graph exceeds the budget.
    """
    with as_file(settings) as file:
        exported = export_loaded(load_export(file, as_overrides(overrides)))
    return exported if isinstance(exported, Path) else exported.file.parent


def load_export(file: Path, overrides: Sequence[str | Override], require_package: bool = True) -> "Loaded[Export]":
    """Load the settings of an export.

    Args:
        file: The YAML file.
        overrides: Changes to the settings.
        require_package: Whether to check first that the package for the format is installed.

    Raises:
        ConfigError: The settings are invalid, or the package is not installed.
    """
    from pocketdit.export.settings import settings_class

    kind = settings_class(file)
    if require_package:
        require_package_of(kind)
    return load_config(file, overrides, kind)


def require_package_of(kind: "type[Export]") -> None:
    """Check that the package for a format is installed.

    Raises:
        ConfigError: The package is not installed.
    """
    from pocketdit.export.coreai.dependency import require_coreai
    from pocketdit.export.coreai.settings import CoreAIExport
    from pocketdit.export.coreml.dependency import require_coremltools
    from pocketdit.export.coreml.settings import CoreMLExport
    from pocketdit.export.litert.dependency import require_litert
    from pocketdit.export.litert.settings import LiteRTExport

    {CoreMLExport: require_coremltools, CoreAIExport: require_coreai, LiteRTExport: require_litert}[kind]()


def export_loaded(loaded: "Loaded[Export]") -> "Path | ExportedModel":
    """Export a run as the settings specify, and return the folder of the packages or, for LiteRT, the model."""
    from pocketdit.export.coreai.settings import CoreAIExport
    from pocketdit.export.coreml.settings import CoreMLExport
    from pocketdit.export.litert.settings import LiteRTExport

    match loaded.config:
        case CoreMLExport() as coreml:
            from pocketdit.export.coreml.dependency import silence_coremltools

            silence_coremltools()
            from pocketdit.export.coreml.export import export_coreml

            return export_coreml(coreml)
        case CoreAIExport() as coreai:
            from pocketdit.export.coreai.dependency import silence_coreai

            silence_coreai()
            from pocketdit.export.coreai.export import export_coreai

            return export_coreai(coreai)
        case LiteRTExport() as litert:
            from pocketdit.export.litert.export import export_litert

            return export_litert(litert)
        case _:
            assert_never(loaded.config)

"""Settings of ``lightning export``. The ``kind`` in the YAML file selects the target and thus the class of settings."""

from pathlib import Path
from typing import TypeAlias

from pocketdit.config import document
from pocketdit.config.errors import did_you_mean_or_all, show
from pocketdit.errors import ConfigError
from pocketdit.export.coreai.settings import CoreAIExport
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.litert.settings import LiteRTExport

Export: TypeAlias = CoreMLExport | CoreAIExport | LiteRTExport

_CLASSES: dict[str, type[CoreMLExport] | type[CoreAIExport] | type[LiteRTExport]] = {
    "coreml": CoreMLExport,
    "coreai": CoreAIExport,
    "litert": LiteRTExport,
}


def settings_class(path: Path) -> type[CoreMLExport] | type[CoreAIExport] | type[LiteRTExport]:
    """Return the settings class for the ``kind`` in a YAML file.

    Raises:
        ConfigError: The file is not valid YAML, or its ``kind`` is missing or unknown.
    """
    source = document.read(path)
    kind = source.values.get("kind")
    if kind is None:
        raise ConfigError(f"{path}: missing required key 'kind'; set it to one of {', '.join(_CLASSES)}")
    if not isinstance(kind, str) or kind not in _CLASSES:
        hint = did_you_mean_or_all(kind, _CLASSES)
        raise ConfigError(f"{source.place('kind')}: kind: unknown target {show(kind)}{hint}")
    return _CLASSES[kind]

"""Workaround for the slow import of torchmetrics, which accounts for about a third of the import time of Lightning.

Lightning only uses the classes ``Metric`` and ``MetricCollection`` of torchmetrics, but ``import torchmetrics`` imports
all of its metrics and, with them, torchvision, transformers and scipy. With this module, ``import torchmetrics``
initially imports none of these. The two classes are imported from their own modules, and access to any other attribute
first runs the package's real ``__init__``, so that torchmetrics still provides all of its names.

Remove this module once Lightning or torchmetrics defers these imports.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_MODULES = {
    "Metric": "torchmetrics.metric",
    "MetricCollection": "torchmetrics.collections",
    "__version__": "torchmetrics.__about__",
}


class _TorchmetricsFinder:
    """Import finder that locates torchmetrics as usual but defers its ``__init__``."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torchmetrics":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module
        spec.loader.exec_module = lambda module: defer(module, run)  # type: ignore[method-assign]  # wraps only this loader
        return spec


def defer(package: ModuleType, run: Callable[[ModuleType], None]) -> None:
    """Add a module-level ``__getattr__`` (PEP 562), which imports the requested attribute, to the package.

    Args:
        package: The package, whose ``__init__`` has not been run yet.
        run: Function that runs the package's ``__init__``.
    """

    def find(name: str) -> Any:
        if name in _MODULES:
            if name != "__version__":
                # This must come first, because torchmetrics.utilities and torchmetrics.metric import each other.
                import_module("torchmetrics.utilities")
            return getattr(import_module(_MODULES[name]), name)
        del package.__getattr__
        run(package)
        return getattr(package, name)

    package.__getattr__ = find  # type: ignore[method-assign]  # set on the module, not on ModuleType
    package._logger = logging.getLogger("torchmetrics")  # type: ignore[attr-defined]  # torchmetrics.utilities needs it


def install() -> None:
    """Install the import finder if it is not installed yet. The finder acts only when torchmetrics is imported."""
    if not any(isinstance(finder, _TorchmetricsFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchmetricsFinder())

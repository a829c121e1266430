"""Execute the packages of a bundle with the runtime of their format."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pocketdit.export.app.bundle import Bundle

Runtime = Callable[[str, Mapping[str, Tensor]], dict[str, Tensor]]
"""Executes a package, given its name and its inputs, and returns its named outputs in float32."""


def load_runtime(bundle: Bundle, threads: int = 1) -> Runtime:
    """Return the runtime for a bundle. A package is loaded when it is first executed.

    Raises:
        ConfigError: The runtime is not installed.
    """
    match bundle.manifest["kind"]:
        case "coreml":
            return _coreml(bundle)
        case "coreai":
            return _coreai(bundle)
        case "litert":
            return _litert(bundle, threads)
    raise AssertionError(bundle.manifest["kind"])  # the schema allows only the kinds above


def path_of(bundle: Bundle, package: str) -> Path:
    """Return the path of a package."""
    return bundle.folder / str(bundle.manifest["packages"][package]["file"])


def _coreml(bundle: Bundle) -> Runtime:
    """Return a runtime that uses Core ML on a Mac, and interprets the packages on other systems."""
    from pocketdit.export.coreml.dependency import require_coremltools, silence_coremltools

    require_coremltools()
    silence_coremltools()
    if sys.platform == "darwin":
        from pocketdit.export.coreml.native import NativePackage

        native: dict[str, Any] = {}
        return lambda name, inputs: _loaded(native, name, lambda: NativePackage(path_of(bundle, name)))(inputs)
    from pocketdit.export.coreml import interpreter
    from pocketdit.export.coreml.package import Package

    packages: dict[str, Any] = {}
    return lambda name, inputs: interpreter.run(_loaded(packages, name, lambda: Package(path_of(bundle, name))), inputs)


def _coreai(bundle: Bundle) -> Runtime:
    from pocketdit.export.coreai.dependency import require_coreai, silence_coreai

    require_coreai()
    silence_coreai()
    from pocketdit.export.coreai.runtime import CoreAIModel

    models: dict[str, Any] = {}
    return lambda name, inputs: _loaded(models, name, lambda: CoreAIModel(path_of(bundle, name)))(inputs)


def _litert(bundle: Bundle, threads: int) -> Runtime:
    from pocketdit.export.litert.dependency import require_litert_runtime

    require_litert_runtime()
    from pocketdit.export.litert.interpreter import LiteRTModel

    models: dict[str, Any] = {}
    return lambda name, inputs: _loaded(models, name, lambda: LiteRTModel(path_of(bundle, name), threads))(inputs)


def _loaded(cache: dict[str, Any], name: str, load: Callable[[], Any]) -> Any:
    if name not in cache:
        cache[name] = load()
    return cache[name]

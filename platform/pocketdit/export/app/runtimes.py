"""Execute the packages of a bundle with the runtime of their format."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from pocketdit.errors import ConfigError
from pocketdit.export.app.bundle import Bundle

Runtime = Callable[[str, Mapping[str, Tensor]], dict[str, Tensor]]
"""Executes a package, given its name and its inputs, and returns its named outputs in float32."""
Execute = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Executes a package that is loaded, given its inputs."""
Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each input of a package."""


def load_runtime(bundle: Bundle, threads: int = 1) -> Runtime:
    """Return the runtime for a bundle. A package is loaded when it is first executed.

    The runtime raises ``ConfigError`` if a package does not have the inputs that the manifest lists.

    Raises:
        ConfigError: The runtime is not installed.
    """
    match bundle.manifest["kind"]:
        case "coreml":
            load = _coreml()
        case "coreai":
            load = _coreai()
        case "litert":
            load = _litert(threads)
        case kind:
            raise AssertionError(kind)  # the schema allows only the kinds above
    loaded: dict[str, Execute] = {}

    def run(package: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if package not in loaded:
            execute, shapes = load(path_of(bundle, package))
            require_listed_inputs(bundle, package, shapes)
            loaded[package] = execute
        return loaded[package](inputs)

    return run


def require_listed_inputs(bundle: Bundle, package: str, shapes: Shapes) -> None:
    """Check that a package has the inputs that the manifest lists.

    Raises:
        ConfigError: The name or the shape of an input differs.
    """
    listed = {name: tuple(entry["shape"]) for name, entry in bundle.manifest["packages"][package]["inputs"].items()}
    if listed != dict(shapes):
        raise ConfigError(
            f"{path_of(bundle, package)}: has inputs with the shapes {dict(shapes)}, but the manifest lists {listed}; "
            "export the bundle again"
        )


def path_of(bundle: Bundle, package: str) -> Path:
    """Return the path of a package."""
    return bundle.folder / str(bundle.manifest["packages"][package]["file"])


def _coreml() -> Callable[[Path], tuple[Execute, Shapes]]:
    """Return a function that loads a package into Core ML on a Mac, and into the interpreter on other systems."""
    from pocketdit.export.coreml.dependency import require_coremltools, silence_coremltools

    require_coremltools()
    silence_coremltools()
    from pocketdit.export.coreml import interpreter
    from pocketdit.export.coreml.native import NativePackage
    from pocketdit.export.coreml.package import Package

    def load(path: Path) -> tuple[Execute, Shapes]:
        package = Package(path)
        execute: Execute = NativePackage(path) if sys.platform == "darwin" else partial(interpreter.run, package)
        return execute, {name: declared.shape for name, declared in package.inputs.items()}

    return load


def _coreai() -> Callable[[Path], tuple[Execute, Shapes]]:
    from pocketdit.export.coreai.dependency import require_coreai, silence_coreai

    require_coreai()
    silence_coreai()
    from pocketdit.export.coreai.runtime import CoreAIModel

    def load(path: Path) -> tuple[Execute, Shapes]:
        model = CoreAIModel(path)
        return model, model.inputs

    return load


def _litert(threads: int) -> Callable[[Path], tuple[Execute, Shapes]]:
    from pocketdit.export.litert.dependency import require_litert_runtime

    require_litert_runtime()
    from pocketdit.export.litert.interpreter import LiteRTModel

    def load(path: Path) -> tuple[Execute, Shapes]:
        model = LiteRTModel(path, threads)
        return model, model.inputs

    return load

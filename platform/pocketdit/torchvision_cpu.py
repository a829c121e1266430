"""Makes ``import torchvision`` work with a CPU build of torch.

The Linux wheel of torchvision on PyPI is compiled for CUDA. With a CPU build of torch, its extension cannot be loaded,
so the operator ``torchvision::nms`` does not exist and torchvision's own Python code fails to import (pytorch/vision
issues 9077 and 9085), and with it lightning, torchmetrics, diffusers and timm. If the extension cannot be loaded, this
module declares the two operators that the import needs. They have no implementation: calling them, or the decoders of
torchvision.io, still fails with a clear error.

This module can be removed once torchvision imports without its extension or PyPI has a wheel for CPU builds of torch.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_OPERATORS = ("nms", "qnms")


class _TorchvisionFinder:
    """Import finder that finds torchvision as Python would and prepares torch just before torchvision's code runs."""

    def __init__(self) -> None:
        self.libraries: list[object] = []  # operators exist as long as their library object

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or spec.origin is None:
            return None
        folder, run = Path(spec.origin).parent, spec.loader.exec_module

        def prepare_and_run(module: ModuleType) -> None:
            self.prepare(folder)
            run(module)

        spec.loader.exec_module = prepare_and_run  # type: ignore[method-assign]
        return spec

    def prepare(self, folder: Path) -> None:
        """Declare the operators unless torchvision's extension in ``folder`` loads or they already exist."""
        import torch

        for extension in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
            try:
                torch.ops.load_library(str(extension))
            except OSError:
                continue
            return
        missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
        if missing:
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in missing:
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.libraries.append(library)


def install() -> None:
    """Install the finder once, before torchvision is imported. It costs nothing until then."""
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())  # type: ignore[arg-type]

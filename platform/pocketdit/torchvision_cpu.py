"""Lets ``import torchvision`` succeed beside a CPU build of torch.

The Linux wheel of torchvision on PyPI is compiled against CUDA. Beside a CPU torch its extension cannot load,
so the operator ``torchvision::nms`` does not exist, and torchvision's own Python code dies on it
(pytorch/vision issues 9077 and 9085); with it die lightning, torchmetrics, diffusers and timm.
Where, and only where, the extension does not load, this declares the two operators that the import asks for.
They get no implementation: calling them, or torchvision.io's decoders, still fails with a clear error.

It can go once torchvision imports without its extension, or once PyPI has a wheel for a CPU torch.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_OPERATORS = ("nms", "qnms")


class _TorchvisionFinder:
    """Finds torchvision as Python would, and prepares torch just before its code runs."""

    def __init__(self) -> None:
        self.declared: list[object] = []  # operators live as long as their library object

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
        """Declares the operators unless the extension in torchvision's ``folder`` loads or they are there."""
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
            self.declared.append(library)


def install() -> None:
    """Puts the finder in place, once. Costs nothing until torchvision is imported; call it before that."""
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())  # type: ignore[arg-type]

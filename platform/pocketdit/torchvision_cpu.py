"""Workaround for importing torchvision with a CPU build of torch.

The Linux wheel of torchvision on PyPI is compiled for CUDA. With a CPU build of torch, its extension cannot be loaded,
the operator ``torchvision::nms`` is never registered, and torchvision's own Python code fails to import (pytorch/vision
issues 9077 and 9085). As a result, lightning, torchmetrics, diffusers, and timm cannot be imported either. If the
extension cannot be loaded, this module declares the two operators that the import requires. The operators have no
implementation, so calling them, or using the decoders of torchvision.io, still fails with a clear error.

Remove this module once torchvision can be imported without its extension or PyPI has a wheel for CPU builds of torch.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_OPERATORS = ("nms", "qnms")


class _TorchvisionFinder:
    """Import finder that locates torchvision as usual but prepares torch right before torchvision's code runs."""

    def __init__(self) -> None:
        self.libraries: list[object] = []  # deleting a library object would remove its operators

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

        spec.loader.exec_module = prepare_and_run  # type: ignore[method-assign]  # wraps only this loader
        return spec

    def prepare(self, folder: Path) -> None:
        """Declare the missing operators unless torchvision's extension in ``folder`` can be loaded."""
        import torch

        for extension in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
            try:
                torch.ops.load_library(str(extension))  # type: ignore[no-untyped-call]  # torch does not annotate it
            except OSError:
                continue
            return
        missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
        if missing:
            # torch does not annotate the class.
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            for name in missing:
                schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                library.define(schema)  # type: ignore[no-untyped-call]
            self.libraries.append(library)


def install() -> None:
    """Install the import finder if it is not installed yet. The finder acts only when torchvision is imported."""
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())

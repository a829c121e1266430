"""Run a Core ML package with Core ML itself, which requires a Mac."""

from collections.abc import Mapping
from pathlib import Path

import coremltools as ct
import torch
from torch import Tensor


class NativePackage:
    """A package that Core ML has compiled and loaded.

    This class has not been tested, because Core ML requires macOS.

    Args:
        path: Path of the .mlpackage folder.
    """

    def __init__(self, path: Path) -> None:
        self.model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit.CPU_AND_NE)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the package and return its named outputs."""
        outputs = self.model.predict({name: value.numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(value).float() for name, value in outputs.items()}

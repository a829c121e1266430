"""Run the program of a saved Core ML package with torch, one operation at a time.

Each operation is computed in fp32, and its result is rounded to the type that the program declares. Values are fp16
between operations, but not within an operation. This verifies the graph and its weights, but not the arithmetic of the
Neural Engine.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from pocketdit.errors import RunError
from pocketdit.export.coreml.operations import OPERATIONS
from pocketdit.export.coreml.package import Argument, Literal, Operation, Package, TensorType

_DTYPES = {"FLOAT16": torch.float16, "FLOAT32": torch.float32, "INT32": torch.int32, "BOOL": torch.bool}


@torch.no_grad()
def run(package: Package, inputs: Mapping[str, Tensor], progress: bool = False) -> dict[str, Tensor]:
    """Run a package and return its named outputs in fp32. Integer inputs, such as token IDs, remain integers.

    Weights are read only when an operation needs them, and tensors are freed after their last use.

    Raises:
        RunError: An operation is not supported, an input is missing, or a tensor does not have its declared shape.
    """
    require_supported(package)
    state = _State(package)
    for name, declared in package.inputs.items():
        if name not in inputs:
            raise RunError(f"{package.path.name}: input {name} is missing")
        state.store(name, declared, inputs[name])
    steps = [operation for operation in package.operations if not operation.is_constant]
    for operation in tqdm(steps, desc=package.path.stem, unit="op", disable=not progress, mininterval=1.0):
        state.execute(operation)
    return {name: state.values[name].float() for name in package.outputs}


def require_supported(package: Package) -> None:
    """Check that the interpreter supports all operations of a package.

    Raises:
        RunError: An operation is not supported. The message lists all unsupported kinds of operations.
    """
    kinds = Counter(o.kind for o in package.operations if o.kind != "const")
    unknown = sorted(kind for kind in kinds if kind not in OPERATIONS and kind != "constexpr_lut_to_dense")
    if unknown:
        raise RunError(
            f"{package.path.name}: cannot be verified, because these operations are not supported: "
            f"{', '.join(unknown)} (see export/coreml/operations.py)"
        )


class _State:
    """The tensors that later operations need, with the number of operations that still need each tensor."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.values: dict[str, Tensor] = {}
        self.uses = Counter(name for operation in package.operations for name in set(operation.input_names()))
        self.uses.update(package.outputs)

    def store(self, name: str, declared: TensorType, value: Tensor) -> None:
        """Round a value to its declared type and store it."""
        if tuple(value.shape) != declared.shape:
            raise RunError(
                f"{self.package.path.name}: the shape of {name} is {tuple(value.shape)}, "
                f"but the program declares {declared.shape}"
            )
        if declared.dtype not in _DTYPES:
            raise RunError(f"{self.package.path.name}: {name} has type {declared.dtype}, which cannot be verified")
        self.values[name] = value.to(_DTYPES[declared.dtype])

    def execute(self, operation: Operation) -> None:
        """Compute an operation, store its results, and free its inputs after their last use."""
        arguments = {
            name: [self.argument(a) for a in values] if name == "values" else self.argument(values[0])
            for name, values in operation.inputs.items()
        }
        try:
            results = OPERATIONS[operation.kind](**arguments)
        except (NotImplementedError, TypeError) as error:
            raise RunError(
                f"{self.package.path.name}: {operation.kind} ({operation.name}) cannot be verified: {error}"
            ) from error
        results = results if isinstance(results, list | tuple) else [results]
        for (name, declared), result in zip(operation.outputs.items(), results, strict=True):
            self.store(name, declared, result)
        for name in set(operation.input_names()):
            self.uses[name] -= 1
            if not self.uses[name]:
                self.values.pop(name, None)

    def argument(self, argument: Argument) -> Any:
        """Return the value of an argument, which is a tensor of fp32 numbers or integers, or a Python object."""
        if isinstance(argument, str):
            if argument in self.values:
                value = self.values[argument]
                return value.float() if value.is_floating_point() else value
            return _to_torch(read_weight(self.package, self.package.constants[argument]))
        return _to_torch(self.package.read(argument))


def read_weight(package: Package, operation: Operation) -> NDArray[Any]:
    """Read the value of a constant. If the constant is palettized, its palettes are expanded."""
    if operation.kind == "const":
        literal = operation.inputs["val"][0]
        assert isinstance(literal, Literal)
        return package.read(literal)
    values = {name: _constant(package, arguments[0]) for name, arguments in operation.inputs.items()}
    shape = operation.outputs[operation.name].shape
    if "shape" in values:
        return expand_packed_palette(values["indices"], values["lut"], shape)
    return expand_grouped_palettes(values["indices"], values["lut"])


def _constant(package: Package, argument: Argument) -> NDArray[Any]:
    return read_weight(package, package.constants[argument]) if isinstance(argument, str) else package.read(argument)


def expand_packed_palette(indices: NDArray[Any], palette: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Compute iOS 16's ``constexpr_lut_to_dense``, in which indices are packed into bytes with the lowest bit first."""
    bits, size = int(np.log2(len(palette))), math.prod(shape)
    unpacked = np.unpackbits(indices, bitorder="little", count=size * bits).reshape(size, bits)
    entries = (unpacked << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    weight: NDArray[Any] = palette[entries].reshape(shape)
    return weight


def expand_grouped_palettes(indices: NDArray[Any], palettes: NDArray[Any]) -> NDArray[Any]:
    """Compute iOS 18's ``constexpr_lut_to_dense``, in which parts of a weight can have different palettes.

    Args:
        indices: Palette index of each element of the weight.
        palettes: Palettes (number of groups along each axis of the weight, entries, 1).

    Returns:
        The weight, in the shape of ``indices``.
    """
    if palettes.shape[-1] != 1:
        raise RunError("palettes that contain vectors cannot be verified")
    groups = palettes.shape[:-2]
    group_of = [np.arange(side) // (side // count) for side, count in zip(indices.shape, groups, strict=True)]
    weight: NDArray[Any] = palettes[(*np.ix_(*group_of), indices, 0)]
    return weight


def _to_torch(array: NDArray[Any]) -> Any:
    """Convert floating-point arrays to fp32 tensors, and all other values to Python numbers, strings and lists."""
    if array.dtype.kind == "f" and array.ndim:
        return torch.from_numpy(array.astype(np.float32))
    return array.tolist()

"""Execute the program of a saved Core ML package, operation by operation, with torch.

Each operation computes in fp32, and its result is rounded to the type that the program declares: values are fp16
between operations, but not within one. This verifies the graph and its weights, not the Neural Engine's arithmetic.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pocketdit.errors import RunError
from pocketdit.export.coreml.operations import OPERATIONS
from pocketdit.export.coreml.package import Argument, Literal, Operation, Package, TensorType

_DTYPES = {"FLOAT16": torch.float16, "FLOAT32": torch.float32}


@torch.no_grad()
def run(package: Package, inputs: Mapping[str, Tensor], progress: bool = False) -> dict[str, Tensor]:
    """Run a package and return its outputs by name in fp32.

    Weights are read only when an operation needs them, and a tensor is dropped after its last use.

    Raises:
        RunError: An operation is not supported, an input is missing, or a shape differs from the declared one.
    """
    require_supported(package)
    state = _State(package)
    for name, declared in package.inputs.items():
        if name not in inputs:
            raise RunError(f"{package.path.name}: the input {name} is missing")
        state.store(name, declared, inputs[name])
    steps = [operation for operation in package.operations if not operation.is_constant]
    for operation in tqdm(steps, desc=package.path.stem, unit="op", disable=not progress, mininterval=1.0):
        state.execute(operation)
    return {name: state.values[name].float() for name in package.outputs}


def require_supported(package: Package) -> None:
    """Raise ``RunError`` with every kind of operation that the interpreter does not support."""
    kinds = Counter(o.kind for o in package.operations if o.kind != "const")
    unknown = sorted(kind for kind in kinds if kind not in OPERATIONS and kind != "constexpr_lut_to_dense")
    if unknown:
        raise RunError(
            f"{package.path.name}: cannot be verified, because these operations are not supported: "
            f"{', '.join(unknown)} (see export/coreml/operations.py)"
        )


class _State:
    """Tensors that later operations still need, and how many operations need them."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.values: dict[str, Tensor] = {}
        self.uses = Counter(name for operation in package.operations for name in set(operation.input_names()))
        self.uses.update(package.outputs)

    def store(self, name: str, declared: TensorType, value: Tensor) -> None:
        """Round a value to its declared type and keep it."""
        if tuple(value.shape) != declared.shape:
            raise RunError(
                f"{self.package.path.name}: {name} is {tuple(value.shape)}, but the program declares {declared.shape}"
            )
        if declared.dtype not in _DTYPES:
            raise RunError(f"{self.package.path.name}: {name} has type {declared.dtype}, which cannot be verified")
        self.values[name] = value.to(_DTYPES[declared.dtype])

    def execute(self, operation: Operation) -> None:
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
        if isinstance(argument, str):
            if argument in self.values:
                return self.values[argument].float()
            return _to_torch(read_weight(self.package, self.package.constants[argument]))
        return _to_torch(self.package.read(argument))


def read_weight(package: Package, operation: Operation) -> NDArray[Any]:
    """Return the value of a constant, with palettes expanded."""
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
    """``constexpr_lut_to_dense`` of iOS16: indices are packed into bytes, lowest bit first."""
    bits, size = int(np.log2(len(palette))), math.prod(shape)
    unpacked = np.unpackbits(indices, bitorder="little", count=size * bits).reshape(size, bits)
    entries = (unpacked << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    return palette[entries].reshape(shape)  # type: ignore[no-any-return]


def expand_grouped_palettes(indices: NDArray[Any], palettes: NDArray[Any]) -> NDArray[Any]:
    """``constexpr_lut_to_dense`` of iOS18.

    Args:
        indices: Same shape as the weight.
        palettes: (groups along every axis of the weight, entries, 1).
    """
    if palettes.shape[-1] != 1:
        raise RunError("palettes of vectors cannot be verified")
    groups = palettes.shape[:-2]
    group_of = [np.arange(side) // (side // count) for side, count in zip(indices.shape, groups, strict=True)]
    return palettes[(*np.ix_(*group_of), indices, 0)]  # type: ignore[no-any-return]


def _to_torch(array: NDArray[Any]) -> Any:
    """Floating-point arrays as fp32 tensors; everything else as Python numbers, strings and lists."""
    if array.dtype.kind == "f" and array.ndim:
        return torch.from_numpy(array.astype(np.float32))
    return array.tolist()

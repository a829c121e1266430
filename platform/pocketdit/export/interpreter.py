"""A saved package's program, executed operation by operation with torch.

Each operation computes in fp32 and its result is rounded to the type that the program declares for it: fp16 numbers
between operations, no fp16 within one. That proves graph and weights; the Neural Engine's own arithmetic it is not.
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
from pocketdit.export.operations import OPERATIONS
from pocketdit.export.package import Argument, Literal, Operation, Package, TensorType

_ROUNDED = {"FLOAT16": torch.float16, "FLOAT32": torch.float32}


@torch.no_grad()
def run(package: Package, inputs: Mapping[str, Tensor], progress: bool = False) -> dict[str, Tensor]:
    """Outputs by name, fp32. A weight is read when an operation wants it, and a tensor is dropped after its last use.

    Raises ``RunError`` for an operation that is not known, an input that is missing or of another shape, and a
    result of another shape than declared.
    """
    require_known(package)
    state = _State(package)
    for name, declared in package.inputs.items():
        if name not in inputs:
            raise RunError(f"{package.path.name}: the input {name} is missing")
        state.keep(name, declared, inputs[name])
    steps = [operation for operation in package.operations if not operation.is_constant]
    for operation in tqdm(steps, desc=package.path.stem, unit="op", disable=not progress, mininterval=1.0):
        state.execute(operation)
    return {name: state.values[name].float() for name in package.outputs}


def require_known(package: Package) -> None:
    """Raises ``RunError`` that names every kind of operation which the interpreter does not have."""
    kinds = Counter(o.kind for o in package.operations if o.kind != "const")
    unknown = sorted(kind for kind in kinds if kind not in OPERATIONS and kind != "constexpr_lut_to_dense")
    if unknown:
        raise RunError(
            f"{package.path.name}: cannot be verified: no {', '.join(unknown)} among the operations known "
            "(export/operations.py)"
        )


class _State:
    """Tensors that are still wanted, and how often."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.values: dict[str, Tensor] = {}
        self.uses = Counter(name for operation in package.operations for name in set(operation.names()))
        self.uses.update(package.outputs)

    def keep(self, name: str, declared: TensorType, value: Tensor) -> None:
        """Round to the declared type; fp32 holds what fp16 rounded."""
        if tuple(value.shape) != declared.shape:
            raise RunError(
                f"{self.package.path.name}: {name} is {tuple(value.shape)}, but the program declares {declared.shape}"
            )
        if declared.dtype not in _ROUNDED:
            raise RunError(f"{self.package.path.name}: {name} is of type {declared.dtype}, which is not computed here")
        self.values[name] = value.to(_ROUNDED[declared.dtype])

    def execute(self, operation: Operation) -> None:
        arguments = {
            name: [self.argument(a) for a in given] if name == "values" else self.argument(given[0])
            for name, given in operation.inputs.items()
        }
        try:
            results = OPERATIONS[operation.kind](**arguments)
        except (NotImplementedError, TypeError) as error:
            raise RunError(
                f"{self.package.path.name}: {operation.kind} ({operation.name}) cannot be verified: {error}"
            ) from error
        results = results if isinstance(results, list | tuple) else [results]
        for (name, declared), result in zip(operation.outputs.items(), results, strict=True):
            self.keep(name, declared, result)
        for name in set(operation.names()):
            self.uses[name] -= 1
            if not self.uses[name]:
                self.values.pop(name, None)

    def argument(self, argument: Argument) -> Any:
        if isinstance(argument, str):
            if argument in self.values:
                return self.values[argument].float()
            return _value(weight(self.package, self.package.constants[argument]))
        return _value(self.package.read(argument))


def weight(package: Package, operation: Operation) -> NDArray[Any]:
    """The value of a constant, unpacked where it is a palette."""
    if operation.kind == "const":
        literal = operation.inputs["val"][0]
        assert isinstance(literal, Literal)
        return package.read(literal)
    found = {name: _constant(package, given[0]) for name, given in operation.inputs.items()}
    shape = operation.outputs[operation.name].shape
    if "shape" in found:
        return unpack_by_bits(found["indices"], found["lut"], shape)
    return unpack_by_groups(found["indices"], found["lut"])


def _constant(package: Package, argument: Argument) -> NDArray[Any]:
    return weight(package, package.constants[argument]) if isinstance(argument, str) else package.read(argument)


def unpack_by_bits(indices: NDArray[Any], palette: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """``constexpr_lut_to_dense`` of iOS16: indices of a weight of ``shape``, packed into bytes, lowest bit first."""
    bits, size = int(np.log2(len(palette))), math.prod(shape)
    unpacked = np.unpackbits(indices, bitorder="little", count=size * bits).reshape(size, bits)
    places = (unpacked << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    return palette[places].reshape(shape)  # type: ignore[no-any-return]


def unpack_by_groups(indices: NDArray[Any], palettes: NDArray[Any]) -> NDArray[Any]:
    """``constexpr_lut_to_dense`` of iOS18: palettes (groups of every axis, entries, 1), indices as the weight."""
    if palettes.shape[-1] != 1:
        raise RunError("palettes of vectors cannot be verified")
    groups = palettes.shape[:-2]
    places = [np.arange(side) // (side // count) for side, count in zip(indices.shape, groups, strict=True)]
    return palettes[(*np.ix_(*places), indices, 0)]  # type: ignore[no-any-return]


def _value(array: NDArray[Any]) -> Any:
    """Floating-point tensors for torch; Python's numbers, strings and lists of them for the rest."""
    if array.dtype.kind == "f" and array.ndim:
        return torch.from_numpy(array.astype(np.float32))
    return array.tolist()

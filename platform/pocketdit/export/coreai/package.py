"""Read the program and the weights of a saved .aimodel folder.

The program is MLIR bytecode, which coreai-core reads. A composite operation is stored as a call to a private graph,
with a declaration that names the operation.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from coreai._compiler._mlir_libs._coreaiIR._bindings.compiler import copy_constant_value_to_array
from coreai.authoring import AIModelAsset
from numpy.typing import NDArray

from pocketdit.errors import RunError
from pocketdit.export.common.native_output import hide_native_output

PROGRAM, HASH = "main.mlirb", "main.hash"
"""Files of a package. ``PROGRAM`` contains the program and its weights, and ``HASH`` is the SHA-256 of ``PROGRAM``."""

_PREFIXES = ("coreai.", "decomposable.", "broadcasting_")
# Core ML's names for the operations that both formats have, so that censuses of the two formats can be compared.
_CORE_ML_NAMES = {"conv2d": "conv", "conv_transpose2d": "conv_transpose", "batch_matmul": "matmul",
                  "divide": "real_div", "slice": "slice_by_index"}  # fmt: skip
_DTYPES: dict[str, Any] = {"f16": np.float16, "f32": np.float32}
_FAMILIES = {"f": "FLOAT", "bf": "BFLOAT", "si": "INT", "ui": "UINT", "i": "BOOL"}


@dataclass(frozen=True)
class TensorType:
    """The type and shape that a program declares for a tensor.

    Attributes:
        element: Type of the elements in MLIR, such as f16 or ui4.
        shape: Shape of the tensor.
    """

    element: str
    shape: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Bits per element."""
        return int(self.element.lstrip("bfsui"))

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Stored size in bytes. Elements that are smaller than a byte are packed."""
        return -(-self.numel * self.bits // 8)

    @property
    def dtype(self) -> str:
        """Name of the type in a census, such as FLOAT16. Core ML uses the same names."""
        family = _FAMILIES[self.element.rstrip("0123456789")]
        return family if family == "BOOL" else f"{family}{self.bits}"


@dataclass(frozen=True)
class Operation:
    """One operation of a program.

    Attributes:
        name: Unique name within its graph.
        kind: Name of the operation, such as conv, or of the composite operation.
        inputs: Names of the operations or graph inputs whose values this operation reads.
        input_types: Types of the input values.
        outputs: Types of the results.
        is_constant: Whether the result is stored in the package or computed only from stored values.
        body: The operations of a composite operation.
        handle: The MLIR operation.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    input_types: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    is_constant: bool
    body: tuple["Operation", ...] = ()
    handle: Any = field(default=None, repr=False, compare=False)


class Package:
    """A saved Core AI package.

    Args:
        path: Path of the .aimodel folder.

    Raises:
        RunError: The folder is not a Core AI package, or its program is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        require_intact(path)
        try:
            with hide_native_output():
                self.program = AIModelAsset.load(path).program
            graphs = {op.sym_name.value: op for op in self.program._module._mlir_module.body.operations}
            main = graphs["main"]
        except Exception as error:  # the type depends on the damage, for example RuntimeError or KeyError
            raise RunError(f"{path}: not a Core AI package, or damaged ({' '.join(str(error).split())})") from error
        block = main.regions[0].blocks[0]
        names = [str(attributes["coreai.name"].value) for attributes in main.arg_attrs]
        self.inputs = {name: _type(value.type) for name, value in zip(names, block.arguments, strict=True)}
        names = [str(attributes["coreai.name"].value) for attributes in main.res_attrs]
        self.outputs = {
            name: _type(value.type) for name, value in zip(names, list(block.operations)[-1].operands, strict=True)
        }
        self.operations = tuple(_operations(main, graphs))

    @cached_property
    def constants(self) -> dict[str, Operation]:
        """Stored values and palette lookups of the main graph, keyed by name."""
        return {o.name: o for o in self.operations if o.kind in ("constant", "lut_to_dense")}

    def read(self, operation: Operation) -> NDArray[Any]:
        """Return the value of a stored weight in its stored type. A palettized weight is looked up in its palette."""
        if operation.kind == "constant":
            return _read(operation)
        indices, values, _ = (self.constants[name] for name in operation.inputs)
        table = _read(values).reshape(-1)
        weight: NDArray[Any] = table[_read_indices(indices)]
        return weight


def require_intact(path: Path) -> None:
    """Check that the program of a package is undamaged, because Apple's reader aborts the process on damaged files.

    Raises:
        RunError: A file is missing, or the program does not match its hash.
    """
    for name in (PROGRAM, HASH):
        if not (path / name).is_file():
            raise RunError(f"{path}: {name} is missing; export the bundle again")
    with (path / PROGRAM).open("rb") as file:
        if hashlib.file_digest(file, "sha256").digest() != (path / HASH).read_bytes():
            raise RunError(f"{path}: {PROGRAM} is damaged (it does not match {HASH}); export the bundle again")


def _operations(graph: Any, graphs: Mapping[str, Any]) -> Iterator[Operation]:
    block = graph.regions[0].blocks[0]
    names = {value: f"input_{index}" for index, value in enumerate(block.arguments)}
    constant: set[str] = set()
    for index, operation in enumerate(block.operations):
        kind, body = _kind(operation, graphs)
        if kind == "output":
            continue
        inputs = tuple(names[value] for value in operation.operands)
        name = f"{kind}_{index}"
        is_constant = kind == "constant" or (bool(inputs) and constant.issuperset(inputs))
        if is_constant:
            constant.add(name)
        names |= dict.fromkeys(operation.results, name)
        yield Operation(
            name, kind, inputs, tuple(_type(value.type) for value in operation.operands),
            tuple(_type(value.type) for value in operation.results), is_constant, body, operation,
        )  # fmt: skip


def _kind(operation: Any, graphs: Mapping[str, Any]) -> tuple[str, tuple[Operation, ...]]:
    """Return the name of an operation and, for a call to another graph, the operations of that graph."""
    kind = str(operation.name)
    for prefix in _PREFIXES:
        kind = kind.removeprefix(prefix)
    if kind != "invoke":
        return _CORE_ML_NAMES.get(kind, kind), ()
    callee = re.search(r"@([^ >]+)", str(operation.attributes["callee"]))
    assert callee is not None
    graph = graphs[callee[1]]
    declared = re.search(r'composite_declaration<"([^"]+)"', str(graph.attributes["composite_decl"]))
    assert declared is not None
    return declared[1], tuple(_operations(graph, graphs))


def _type(value: Any) -> TensorType:
    return TensorType(str(value.element_type), tuple(value.shape))


def _read(operation: Operation) -> NDArray[Any]:
    """Return the value of a floating-point constant."""
    (declared,) = operation.outputs
    value: NDArray[Any] = _bytes(operation).view(_DTYPES[declared.element])
    return value.reshape(declared.shape)


def _read_indices(operation: Operation) -> NDArray[Any]:
    """Return the indices of a palettized weight, which are packed with the lowest bits first."""
    (declared,) = operation.outputs
    bits = np.unpackbits(_bytes(operation), bitorder="little", count=declared.numel * declared.bits)
    weights = 1 << np.arange(declared.bits, dtype=np.uint8)
    indices: NDArray[Any] = (bits.reshape(-1, declared.bits) * weights).sum(1, dtype=np.uint8)
    return indices.reshape(declared.shape)


def _bytes(operation: Operation) -> NDArray[np.uint8]:
    content = np.zeros(operation.outputs[0].nbytes, np.uint8)
    copy_constant_value_to_array(constant_op=operation.handle, destination=content)
    return content

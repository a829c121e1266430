"""Read the program and the weights of a saved .mlpackage without Core ML.

The program is a MIL protobuf (coremltools/proto/MIL.proto). Weights are in a blob file and are read one at a time.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from coremltools.libmilstoragepython import _BlobStorageReader
from coremltools.models.utils import load_spec
from coremltools.proto import MIL_pb2
from numpy.typing import NDArray

from pocketdit.errors import RunError

# The NumPy dtype of each MIL type. An integer that is smaller than a byte is read into a whole byte.
DTYPES: dict[str, Any] = {
    "FLOAT16": np.float16, "FLOAT32": np.float32, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "BOOL": np.bool_, "STRING": np.str_,
    **{f"UINT{bits}": np.uint8 for bits in (1, 2, 3, 4, 6)}, "INT4": np.int8,
}  # fmt: skip
_BITS = {"BOOL": 8, "STRING": 0} | {name: int(name.lstrip("UINTFLOA")) for name in DTYPES if name[-1].isdigit()}


@dataclass(frozen=True)
class TensorType:
    """The type and shape that a program declares for a tensor.

    Attributes:
        dtype: Name of the type in MIL, such as FLOAT16 or UINT4.
        shape: Shape of the tensor.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Bits per element."""
        return _BITS[self.dtype]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Stored size in bytes. Elements that are smaller than a byte are packed."""
        return -(-self.numel * self.bits // 8)


@dataclass(frozen=True)
class Literal:
    """A constant value, which is stored in the program or in the blob file."""

    type: TensorType
    proto: Any = field(repr=False)


Argument = str | Literal
"""An input of an operation: the name of another operation's output, or a literal."""


@dataclass(frozen=True)
class Operation:
    """One operation of a program.

    Attributes:
        kind: Name of the operation in MIL, such as conv.
        inputs: Arguments of each parameter. A parameter that takes several tensors has several arguments. A constant
            only has the parameter ``val``.
        outputs: Declared type of each output.
    """

    kind: str
    inputs: dict[str, list[Argument]]
    outputs: dict[str, TensorType]

    @property
    def name(self) -> str:
        """Name of the first output."""
        return next(iter(self.outputs))

    @property
    def is_constant(self) -> bool:
        """Whether this is a stored constant or the decompression of a stored constant."""
        return self.kind == "const" or self.kind.startswith("constexpr_")

    def input_names(self) -> Iterator[str]:
        """Return the names of all inputs that are outputs of other operations."""
        return (argument for arguments in self.inputs.values() for argument in arguments if isinstance(argument, str))


class Package:
    """A saved Core ML package.

    Args:
        path: Path of the .mlpackage folder, which must contain an ML program.

    Raises:
        RunError: The folder does not contain a readable program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            program = load_spec(str(path)).mlProgram
            function = program.functions["main"]
            block = function.block_specializations[function.opset]
        except Exception as error:  # the type depends on the damage, for example KeyError, OSError or a protobuf error
            raise RunError(f"{path}: not a Core ML package with an ML program: {str(error).splitlines()[0]}") from error
        if not block.operations:
            raise RunError(f"{path}: the package does not contain an ML program")
        self.opset: str = function.opset
        self.inputs = {value.name: _type(value.type, path) for value in function.inputs}
        self.outputs = list(block.outputs)
        self.operations = [_operation(operation, path) for operation in block.operations]

    @cached_property
    def constants(self) -> dict[str, Operation]:
        """Constants, keyed by the names of their outputs."""
        return {operation.name: operation for operation in self.operations if operation.is_constant}

    def text(self, argument: Argument) -> str:
        """Return the value of a string argument."""
        literal = self.constants[argument].inputs["val"][0] if isinstance(argument, str) else argument
        assert isinstance(literal, Literal)
        return str(self.read(literal))

    @cached_property
    def blob(self) -> Any:
        """Reader of the blob file that contains the weights."""
        file = next((self.path / "Data").rglob("weight.bin"), None)
        if file is None:
            raise RunError(f"{self.path}: weight.bin is missing; export the bundle again")
        return _BlobStorageReader(str(file))

    def read(self, literal: Literal) -> NDArray[Any]:
        """Return the value of a literal as an array of the declared type and shape."""
        declared = literal.type
        if literal.proto.WhichOneof("value") == "blobFileValue":
            return self._read_blob(declared, literal.proto.blobFileValue.offset)
        tensor = literal.proto.immediateValue.tensor
        stored = tensor.WhichOneof("value")
        if stored == "bytes":
            values = np.frombuffer(tensor.bytes.values, DTYPES[declared.dtype])
        else:
            values = np.array(list(getattr(tensor, stored).values) if stored else [], DTYPES[declared.dtype])
        return values.reshape(declared.shape)

    def _read_blob(self, declared: TensorType, offset: int) -> NDArray[Any]:
        method = {"FLOAT16": "fp16", "FLOAT32": "float"}.get(declared.dtype, declared.dtype.lower())
        try:
            values: NDArray[Any] = np.asarray(getattr(self.blob, f"read_{method}_data")(offset))
            typed: NDArray[Any] = values.view(DTYPES[declared.dtype])
            return typed.reshape(declared.shape)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"{self.path}: weight.bin is damaged ({str(error).splitlines()[0]}); export the bundle again"
            ) from error


def _operation(operation: Any, path: Path) -> Operation:
    if operation.blocks:
        raise RunError(f"{path}: operation {operation.type} contains a block (control flow), which is not supported")
    inputs: dict[str, list[Argument]] = {
        name: [
            argument.name
            if argument.WhichOneof("binding") == "name"
            else Literal(_type(argument.value.type, path), argument.value)
            for argument in value.arguments
        ]
        for name, value in operation.inputs.items()
    }
    for name, value in operation.attributes.items():
        if name != "name":
            inputs[name] = [Literal(_type(value.type, path), value)]
    return Operation(operation.type, inputs, {out.name: _type(out.type, path) for out in operation.outputs})


def _type(value_type: Any, path: Path) -> TensorType:
    tensor = value_type.tensorType
    dtype = MIL_pb2.DataType.Name(tensor.dataType)
    if value_type.WhichOneof("type") != "tensorType" or dtype not in DTYPES:
        raise RunError(f"{path}: values of type {value_type.WhichOneof('type')} {dtype} are not supported")
    return TensorType(dtype, tuple(dimension.constant.size for dimension in tensor.dimensions))

"""The program and the weights of a saved .mlpackage, read without Core ML.

The program is MIL's protobuf (coremltools/proto/MIL.proto); weights lie in a blob file and are read one at a time.
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

# numpy's types of MIL's; sub-byte integers are read one a byte.
TYPES: dict[str, Any] = {
    "FLOAT16": np.float16, "FLOAT32": np.float32, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "BOOL": np.bool_, "STRING": np.str_,
    **{f"UINT{bits}": np.uint8 for bits in (1, 2, 3, 4, 6)}, "INT4": np.int8,
}  # fmt: skip
_BITS = {"BOOL": 8, "STRING": 0} | {name: int(name.lstrip("UINTFLOA")) for name in TYPES if name[-1].isdigit()}


@dataclass(frozen=True)
class TensorType:
    """``dtype``: MIL's name, such as FLOAT16 or UINT4."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Of one element."""
        return _BITS[self.dtype]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """As stored: sub-byte elements are packed."""
        return -(-self.numel * self.bits // 8)


@dataclass(frozen=True)
class Literal:
    """A value that stands in the program or in the blob file."""

    type: TensorType
    proto: Any = field(repr=False)


Argument = str | Literal
"""An operation's input: another's output by its name, or a literal."""


@dataclass(frozen=True)
class Operation:
    """``inputs``: by parameter, a list where the parameter takes several tensors. Constants have ``val`` alone."""

    kind: str
    inputs: dict[str, list[Argument]]
    outputs: dict[str, TensorType]

    @property
    def name(self) -> str:
        return next(iter(self.outputs))

    @property
    def is_constant(self) -> bool:
        """A weight as it is stored, or what a compressed weight is unpacked by."""
        return self.kind == "const" or self.kind.startswith("constexpr_")

    def names(self) -> Iterator[str]:
        """Of all inputs that are outputs of other operations."""
        return (argument for arguments in self.inputs.values() for argument in arguments if isinstance(argument, str))


class Package:
    """``path``: an .mlpackage with an ML program. Raises ``RunError`` where it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            program = load_spec(str(path)).mlProgram
            function = program.functions["main"]
            block = function.block_specializations[function.opset]
        except Exception as error:  # protobuf, KeyError, OSError: whatever is wrong with the folder
            raise RunError(f"{path} is no Core ML package with a program: {str(error).splitlines()[0]}") from error
        if not block.operations:
            raise RunError(f"{path} holds no ML program")
        self.opset: str = function.opset
        self.inputs = {given.name: _type(given.type, path) for given in function.inputs}
        self.outputs = list(block.outputs)
        self.operations = [_operation(operation, path) for operation in block.operations]

    @cached_property
    def constants(self) -> dict[str, Operation]:
        """By the name of what they give."""
        return {operation.name: operation for operation in self.operations if operation.is_constant}

    def text(self, argument: Argument) -> str:
        """A string that is an operation's input."""
        literal = self.constants[argument].inputs["val"][0] if isinstance(argument, str) else argument
        assert isinstance(literal, Literal)
        return str(self.read(literal))

    @cached_property
    def blob(self) -> Any:
        file = next((self.path / "Data").rglob("weight.bin"), None)
        if file is None:
            raise RunError(f"{self.path} holds no weight.bin; export it again")
        return _BlobStorageReader(str(file))

    def read(self, literal: Literal) -> NDArray[Any]:
        """A literal's value, of ``TYPES[dtype]`` and its shape."""
        wanted = literal.type
        if literal.proto.WhichOneof("value") == "blobFileValue":
            return self._from_blob(wanted, literal.proto.blobFileValue.offset)
        tensor = literal.proto.immediateValue.tensor
        stored = tensor.WhichOneof("value")
        if stored == "bytes":
            values = np.frombuffer(tensor.bytes.values, TYPES[wanted.dtype])
        else:
            values = np.array(list(getattr(tensor, stored).values) if stored else [], TYPES[wanted.dtype])
        return values.reshape(wanted.shape)

    def _from_blob(self, wanted: TensorType, offset: int) -> NDArray[Any]:
        kind = {"FLOAT16": "fp16", "FLOAT32": "float"}.get(wanted.dtype, wanted.dtype.lower())
        try:
            values = np.asarray(getattr(self.blob, f"read_{kind}_data")(offset))
            return values.view(TYPES[wanted.dtype]).reshape(wanted.shape)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"{self.path}: weight.bin is damaged ({str(error).splitlines()[0]}); export it again"
            ) from error


def _operation(operation: Any, path: Path) -> Operation:
    if operation.blocks:
        raise RunError(f"{path}: operation {operation.type} holds a block of its own (control flow): not supported")
    inputs: dict[str, list[Argument]] = {
        name: [
            argument.name
            if argument.WhichOneof("binding") == "name"
            else Literal(_type(argument.value.type, path), argument.value)
            for argument in given.arguments
        ]
        for name, given in operation.inputs.items()
    }
    for name, value in operation.attributes.items():
        if name != "name":
            inputs[name] = [Literal(_type(value.type, path), value)]
    return Operation(operation.type, inputs, {out.name: _type(out.type, path) for out in operation.outputs})


def _type(value_type: Any, path: Path) -> TensorType:
    tensor = value_type.tensorType
    dtype = MIL_pb2.DataType.Name(tensor.dataType)
    if value_type.WhichOneof("type") != "tensorType" or dtype not in TYPES:
        raise RunError(f"{path}: a value of type {value_type.WhichOneof('type')} {dtype} is not supported")
    return TensorType(dtype, tuple(dimension.constant.size for dimension in tensor.dimensions))

"""The census of an exported graph, which lists the cost of each operation."""

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from typing import Self

DATA_MOVEMENT = {"reshape", "transpose", "concat", "split", "slice_by_index", "slice_by_size", "expand_dims", "squeeze",
                 "cast", "pixel_shuffle", "pixel_unshuffle", "pad", "identity", "stack", "tile"}  # fmt: skip
"""Operations that move data but do not perform arithmetic."""


@dataclass(frozen=True)
class OperationCost:
    """The cost of one operation. Sizes in bytes are based on the types that the graph declares.

    Attributes:
        name: Name of the first output.
        kind: MIL name of the operation, such as conv, einsum, matmul or softmax.
        shape: Shape of the first output.
        flops: Number of floating-point operations. A multiply-add counts as two.
        input_bytes: Size of all inputs that are not constants.
        output_bytes: Size of all outputs.
        weight_bytes: Stored size of the weights that the operation reads. For a palettized weight, this includes the
            indices and the palette.
        weight_bits: Average number of stored bits per weight, or 0 if the operation has no weights.
        dtype: MIL name of the first output's type.
        elsewhere: Reason why the operation cannot run on the Neural Engine. Empty if it can.
        count: Number of equal operations that this entry represents. All other figures are for a single operation.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    flops: int
    input_bytes: int
    output_bytes: int
    weight_bytes: int = 0
    weight_bits: float = 0.0
    dtype: str = "FLOAT16"
    elsewhere: str = ""
    count: int = 1


@dataclass(frozen=True)
class Census:
    """All operations of a graph except constants, in order of execution.

    Attributes:
        operations: One entry per operation, or per group of equal operations (see ``merged``).
        stored_bytes: Size of all weights in the package. A weight that is shared by several operations counts once.
    """

    operations: tuple[OperationCost, ...]
    stored_bytes: int = 0

    @property
    def count(self) -> int:
        """Number of operations."""
        return sum(o.count for o in self.operations)

    @property
    def flops(self) -> int:
        """Number of floating-point operations per evaluation."""
        return sum(o.flops * o.count for o in self.operations)

    @property
    def weight_bytes(self) -> int:
        """Size of the weights that all operations read. A shared weight counts once per operation."""
        return sum(o.weight_bytes * o.count for o in self.operations)

    @property
    def activation_bytes(self) -> int:
        """Total size of the activations that all operations read and write."""
        return sum((o.input_bytes + o.output_bytes) * o.count for o in self.operations)

    @property
    def largest(self) -> OperationCost:
        """The operation with the largest output."""
        return max(self.operations, key=lambda o: o.output_bytes)

    @property
    def elsewhere(self) -> tuple[OperationCost, ...]:
        """Operations that cannot run on the Neural Engine."""
        return tuple(o for o in self.operations if o.elsewhere)

    def merged(self) -> Self:
        """Merge equal operations into one entry with the name and position of the first one."""
        counts: Counter[OperationCost] = Counter()
        names: dict[OperationCost, str] = {}
        for operation in self.operations:
            unnamed = dataclasses.replace(operation, name="", count=1)
            counts[unnamed] += operation.count
            names.setdefault(unnamed, operation.name)
        merged = tuple(dataclasses.replace(o, name=names[o], count=n) for o, n in counts.items())
        return dataclasses.replace(self, operations=merged)

    def to_json(self) -> str:
        """Convert the census to JSON with one operation per line. Default values are omitted."""
        rows = []
        for operation in self.operations:
            row = {
                f.name: getattr(operation, f.name)
                for f in dataclasses.fields(operation)
                if f.default is dataclasses.MISSING or getattr(operation, f.name) != f.default
            }
            rows.append(json.dumps(row))
        return f'{{"stored_bytes": {self.stored_bytes}, "operations": [\n' + ",\n".join(rows) + "\n]}\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the output of ``to_json``."""
        content = json.loads(text)
        rows = (OperationCost(**row | {"shape": tuple(row["shape"])}) for row in content["operations"])
        return cls(tuple(rows), content["stored_bytes"])

"""What an exported graph costs, operation by operation, from shapes alone."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pocketdit.export.package import Operation, Package, TensorType

# Third parties' findings: the Neural Engine takes tensors of five axes at most, sides up to 16384, fp16 arithmetic.
MAX_RANK, MAX_SIDE = 5, 16384
_ELSEWHERE = {"gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd", "topk",
              "argsort", "non_zero", "one_hot", "cumsum", "band_part", "range_1d", "random_normal"}  # fmt: skip
# Operations that move numbers and compute none.
MOVES = {"reshape", "transpose", "concat", "split", "slice_by_index", "slice_by_size", "expand_dims", "squeeze", "cast",
         "pixel_shuffle", "pixel_unshuffle", "pad", "identity", "stack", "tile"}  # fmt: skip


@dataclass(frozen=True)
class OperationCost:
    """One operation of the graph. Bytes are of the types that the graph declares.

    ``kind``: the operation's type in MIL (conv, einsum, matmul, softmax, ...). ``flops``: a multiply-add counts two.
    ``weight_bytes``: constants that it reads, as stored in the package (a palette with its indices);
    ``weight_bits`` of one stored weight on average, 0 without weights. ``shape``: of its first output.
    ``dtype``: of that output, as MIL names it. ``elsewhere``: why it leaves the Neural Engine; empty where it need not.
    ``count``: so many equal operations stand here as one; the figures are those of one.
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
    """All operations of a graph that compute something (constants left out), in order of execution.

    ``stored_bytes``: of all weights in the package, each once; operations that share one all read it.
    """

    operations: tuple[OperationCost, ...]
    stored_bytes: int = 0

    @property
    def count(self) -> int:
        return sum(o.count for o in self.operations)

    @property
    def flops(self) -> int:
        return sum(o.flops * o.count for o in self.operations)

    @property
    def weight_bytes(self) -> int:
        """Read by all operations."""
        return sum(o.weight_bytes * o.count for o in self.operations)

    @property
    def activation_bytes(self) -> int:
        """Read and written by all operations, weights left out."""
        return sum((o.input_bytes + o.output_bytes) * o.count for o in self.operations)

    @property
    def largest(self) -> OperationCost:
        """The operation with the largest output."""
        return max(self.operations, key=lambda o: o.output_bytes)

    @property
    def elsewhere(self) -> tuple[OperationCost, ...]:
        """Operations that leave the Neural Engine."""
        return tuple(o for o in self.operations if o.elsewhere)

    def merged(self) -> Self:
        """Equal operations as one with their count, under the first one's name and in its place."""
        counts: Counter[OperationCost] = Counter()
        names: dict[OperationCost, str] = {}
        for operation in self.operations:
            bare = dataclasses.replace(operation, name="", count=1)
            counts[bare] += operation.count
            names.setdefault(bare, operation.name)
        merged = tuple(dataclasses.replace(o, name=names[o], count=n) for o, n in counts.items())
        return dataclasses.replace(self, operations=merged)

    def to_json(self) -> str:
        """One operation a line; what is at its default is left out."""
        rows = []
        for operation in self.operations:
            kept = {
                f.name: getattr(operation, f.name)
                for f in dataclasses.fields(operation)
                if f.default is dataclasses.MISSING or getattr(operation, f.name) != f.default
            }
            rows.append(json.dumps(kept))
        return f'{{"stored_bytes": {self.stored_bytes}, "operations": [\n' + ",\n".join(rows) + "\n]}\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` wrote."""
        content = json.loads(text)
        rows = (OperationCost(**row | {"shape": tuple(row["shape"])}) for row in content["operations"])
        return cls(tuple(rows), content["stored_bytes"])


def take(package: "Package") -> Census:
    """The census of a package's program."""
    types = package.inputs | {name: kind for o in package.operations for name, kind in o.outputs.items()}
    costs = tuple(_cost(o, types, package) for o in package.operations if not o.is_constant)
    weights = [o for o in package.constants.values() if _is_weight(o.outputs[o.name])]
    return Census(costs, sum(_stored(weight) for weight in weights))


def _cost(operation: "Operation", types: Mapping[str, "TensorType"], package: "Package") -> OperationCost:
    constants = package.constants
    given = list(dict.fromkeys(operation.names()))
    weights = [name for name in given if name in constants and _is_weight(types[name])]
    weight_bytes = sum(_stored(constants[name]) for name in weights)
    output = operation.outputs[operation.name]
    return OperationCost(
        name=operation.name,
        kind=operation.kind,
        shape=output.shape,
        flops=_flops(operation, types, package),
        input_bytes=sum(types[name].nbytes for name in given if name not in constants),
        output_bytes=sum(value.nbytes for value in operation.outputs.values()),
        weight_bytes=weight_bytes,
        weight_bits=8 * weight_bytes / sum(types[name].numel for name in weights) if weights else 0.0,
        dtype=output.dtype,
        elsewhere=_elsewhere(operation, [types[name] for name in given if name not in constants]),
    )


def _is_weight(value: "TensorType") -> bool:
    """And neither a number nor a setting, such as strides."""
    return value.numel > 1 and value.dtype.startswith("FLOAT")


def _stored(constant: "Operation") -> int:
    """Bytes of a constant in the package: of a palette, its indices and its entries."""
    from pocketdit.export.package import Literal

    given = [argument for name, arguments in constant.inputs.items() if name != "shape" for argument in arguments]
    return sum(argument.type.nbytes for argument in given if isinstance(argument, Literal))


def _flops(operation: "Operation", types: Mapping[str, "TensorType"], package: "Package") -> int:
    output = operation.outputs[operation.name].numel

    def shape(parameter: str, index: int = 0) -> tuple[int, ...]:
        argument = operation.inputs[parameter][index]
        return types[argument].shape if isinstance(argument, str) else argument.type.shape

    match operation.kind:
        case "conv" | "linear":
            return 2 * output * math.prod(shape("weight")[1:])
        case "conv_transpose":
            return 2 * math.prod(shape("x")) * math.prod(shape("weight")[1:])
        case "einsum":
            equation = package.text(operation.inputs["equation"][0])
            sides = {label: side for i, labels in enumerate(equation.split("->")[0].split(","))
                     for label, side in zip(labels, shape("values", i), strict=True)}  # fmt: skip
            return 2 * math.prod(sides.values())
        case "matmul":
            return 2 * output * shape("x")[-1]
        case "softmax":
            return 4 * output  # maximum, difference and exponential, sum, quotient
        case kind if kind.startswith("reduce_"):
            return math.prod(shape("x"))
        case kind if kind in MOVES:
            return 0
        case _:
            return output


def _elsewhere(operation: "Operation", inputs: Iterable["TensorType"]) -> str:
    if operation.kind in _ELSEWHERE:
        return operation.kind
    for value in (*inputs, *operation.outputs.values()):
        if len(value.shape) > MAX_RANK:
            return f"rank {len(value.shape)}"
        if max(value.shape, default=0) > MAX_SIDE:
            return f"side {max(value.shape)}"
        if not value.dtype.startswith("FLOAT16"):
            return value.dtype
    return ""

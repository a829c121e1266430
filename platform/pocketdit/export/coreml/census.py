"""Take the census of a Core ML package, based only on its shapes and types."""

import math
from collections.abc import Iterable, Mapping

from pocketdit.export.common.census import DATA_MOVEMENT, Census, OperationCost
from pocketdit.export.common.neural_engine import why_elsewhere
from pocketdit.export.coreml.package import Literal, Operation, Package, TensorType

_UNSUPPORTED = {"gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd", "topk",
                "argsort", "non_zero", "one_hot", "cumsum", "band_part", "range_1d", "random_normal"}  # fmt: skip


def take_census(package: Package) -> Census:
    """Return the cost of each operation in the program of a package."""
    types = package.inputs | {name: declared for o in package.operations for name, declared in o.outputs.items()}
    costs = tuple(_cost(o, types, package) for o in package.operations if not o.is_constant)
    weights = [o for o in package.constants.values() if _is_weight(o.outputs[o.name])]
    return Census(costs, sum(_stored_bytes(weight) for weight in weights))


def _cost(operation: Operation, types: Mapping[str, TensorType], package: Package) -> OperationCost:
    constants = package.constants
    inputs = list(dict.fromkeys(operation.input_names()))
    weights = [name for name in inputs if name in constants and _is_weight(types[name])]
    weight_bytes = sum(_stored_bytes(constants[name]) for name in weights)
    output = operation.outputs[operation.name]
    return OperationCost(
        name=operation.name,
        kind=operation.kind,
        shape=output.shape,
        flops=_flops(operation, types, package),
        input_bytes=sum(types[name].nbytes for name in inputs if name not in constants),
        output_bytes=sum(value.nbytes for value in operation.outputs.values()),
        weight_bytes=weight_bytes,
        weight_bits=8 * weight_bytes / sum(types[name].numel for name in weights) if weights else 0.0,
        dtype=output.dtype,
        elsewhere=_why_elsewhere(operation, [types[name] for name in inputs if name not in constants]),
    )


def _is_weight(value: TensorType) -> bool:
    """Return whether a constant is a tensor of weights, rather than a scalar or a setting such as strides."""
    return value.numel > 1 and value.dtype.startswith("FLOAT")


def _stored_bytes(constant: Operation) -> int:
    """Return the stored size of a constant. For a palettized weight, this includes the indices and the palette."""
    arguments = [argument for name, values in constant.inputs.items() if name != "shape" for argument in values]
    return sum(argument.type.nbytes for argument in arguments if isinstance(argument, Literal))


def _flops(operation: Operation, types: Mapping[str, TensorType], package: Package) -> int:
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
            return 4 * output  # per element: maximum, exponential of the difference, sum, and quotient
        case kind if kind.startswith("reduce_"):
            return math.prod(shape("x"))
        case kind if kind in DATA_MOVEMENT:
            return 0
        case _:
            return output


def _why_elsewhere(operation: Operation, inputs: Iterable[TensorType]) -> str:
    """Return why an operation cannot run on the Neural Engine, or "" if it can."""
    if operation.kind in _UNSUPPORTED:
        return operation.kind
    values = (*inputs, *operation.outputs.values())
    return next((reason for value in values if (reason := why_elsewhere(value.dtype, value.shape))), "")

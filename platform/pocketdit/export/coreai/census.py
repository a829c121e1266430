"""Take the census of a Core AI package, based only on its shapes and types.

A composite operation counts as one operation, with the FLOPs of its body and the bytes of its inputs and outputs.
Intermediate tensors within the body are not counted, because a device can replace the composite operation with a single
kernel. Operations that depend only on stored values are counted as weights.
"""

import math
from collections.abc import Mapping

from pocketdit.export.common.census import DATA_MOVEMENT, Census, OperationCost
from pocketdit.export.common.neural_engine import why_elsewhere
from pocketdit.export.coreai.package import Operation, Package, TensorType

_MORE_DATA_MOVEMENT = {"shrink_dims", "broadcast_in_dims", "broadcast_to"}
_UNSUPPORTED = {"gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd", "topk",
                "argsort", "non_zero", "one_hot", "cumsum"}  # fmt: skip


def take_census(package: Package) -> Census:
    """Return the cost of each operation in the program of a package."""
    by_name = {operation.name: operation for operation in package.operations}
    costs = tuple(_cost(o, by_name) for o in package.operations if not o.is_constant)
    read = {name for o in package.operations for name in o.inputs if name in by_name}
    stored = sum(_stored_bytes(by_name[name], by_name) for name in read if by_name[name].kind == "constant")
    stored += sum(by_name[o.inputs[0]].outputs[0].nbytes for o in package.operations if o.kind == "lut_to_dense")
    return Census(costs, stored)


def _cost(operation: Operation, by_name: Mapping[str, Operation]) -> OperationCost:
    inputs = dict(zip(operation.inputs, operation.input_types, strict=True))
    weights = [by_name[name] for name in inputs if name in by_name and by_name[name].is_constant]
    weights = [weight for weight in weights if _is_weight(weight.outputs[0])]
    activations = [value for name, value in inputs.items() if name not in by_name or not by_name[name].is_constant]
    weight_bytes = sum(_stored_bytes(weight, by_name) for weight in weights)
    output = operation.outputs[0]
    return OperationCost(
        name=operation.name,
        kind=operation.kind,
        shape=output.shape,
        flops=_flops(operation),
        input_bytes=sum(value.nbytes for value in activations),
        output_bytes=sum(value.nbytes for value in operation.outputs),
        weight_bytes=weight_bytes,
        weight_bits=8 * weight_bytes / sum(weight.outputs[0].numel for weight in weights) if weights else 0.0,
        dtype=output.dtype,
        elsewhere=_why_elsewhere(operation, activations),
    )


def _is_weight(value: TensorType) -> bool:
    """Return whether a constant is a tensor of weights, rather than a scalar or a setting such as strides."""
    return value.numel > 1 and value.dtype.startswith("FLOAT")


def _stored_bytes(constant: Operation, by_name: Mapping[str, Operation]) -> int:
    """Return the stored size of a weight, which may be computed from stored values, for example by a lookup."""
    if constant.kind == "constant":
        return constant.outputs[0].nbytes if _is_weight(constant.outputs[0]) else 0
    stored = sum(_stored_bytes(by_name[name], by_name) for name in constant.inputs)
    return stored + (by_name[constant.inputs[0]].outputs[0].nbytes if constant.kind == "lut_to_dense" else 0)


def _flops(operation: Operation) -> int:
    output, shapes = operation.outputs[0].numel, [value.shape for value in operation.input_types]
    if operation.kind in DATA_MOVEMENT or operation.kind in _MORE_DATA_MOVEMENT:
        return 0
    if operation.body:
        return sum(_flops(part) for part in operation.body if not part.is_constant)
    match operation.kind:
        case "conv":
            return 2 * output * math.prod(shapes[1][1:])
        case "conv_transpose":
            return 2 * math.prod(shapes[0]) * math.prod(shapes[1][1:])
        case "matmul":
            return 2 * output * shapes[0][-1]
        case "softmax":
            return 4 * output  # per element: maximum, exponential of the difference, sum, and quotient
        case kind if kind.startswith("reduce_"):
            return math.prod(shapes[0])
        case _:
            return output


def _why_elsewhere(operation: Operation, inputs: list[TensorType]) -> str:
    """Return why an operation cannot run on the Neural Engine, or "" if it can."""
    if operation.kind in _UNSUPPORTED:
        return operation.kind
    values = (*inputs, *operation.outputs)
    return next((reason for value in values if (reason := why_elsewhere(value.dtype, value.shape))), "")

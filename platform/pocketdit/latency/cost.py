"""A cost model for exported graphs: a roofline per operation, computed from the graph's census.

An operation takes the longer of its arithmetic and its memory traffic (Williams et al. 2009). The graph takes the sum:

    time = sum of max(FLOP / rate, streamed bytes / (stream * memory) + weight bytes / memory) + dispatches

rate       ``compute`` (0.94 by default) times the engine's peak for convolutions, and 0.54 of that for products of two
           activations. Softmax and elementwise operations only have traffic: the engine's rates for them are not
           published.
streamed   The part of inputs and outputs that does not stay in the engine's working set of 2 MiB. If the larger of
           both has s bytes, this is the share max(0, 1 - 2 MiB / s). The blocks of blockwise attention (axis 2 of its
           tensors) are processed one after another, so there s is the size of one block.
stream     Bandwidth of that traffic over the nominal bandwidth of memory. It exceeds 1, because the system-level cache
           (24 MB in the A18 Pro) serves part of the traffic. This is the fitted coefficient.
weights    Read from memory once, as they are stored: a palette saves traffic but no arithmetic.
elsewhere  Operations that leave the engine cost a dispatch each way, their traffic at the bandwidth of memory and
           their arithmetic at the GPU's rate.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, get_args

from pocketdit.export.common.census import DATA_MOVEMENT, Census, OperationCost
from pocketdit.latency.devices import DISPATCH, ON_CHIP, PRODUCTS, SUSTAINED, Device

CostKind = Literal["convolution", "product", "softmax", "elementwise", "movement", "elsewhere", "dispatch"]
COST_KINDS: tuple[CostKind, ...] = get_args(CostKind)
# Operations whose output is a view of their input's memory.
_VIEWS = {"reshape", "split", "expand_dims", "squeeze", "identity", "slice_by_index", "slice_by_size", "cast"}


@dataclass(frozen=True)
class Coefficients:
    """The model's parameters that can be fitted. All others are published figures (see ``devices``).

    Attributes:
        stream: See the module's docstring.
        compute: See the module's docstring.
        elementwise: Share of elementwise traffic that remains after fusion.
        overhead: Seconds per operation.
        on_chip: Working set in bytes.
    """

    stream: float
    compute: float = SUSTAINED
    elementwise: float = 1.0
    overhead: float = 0.0
    on_chip: float = ON_CHIP


def cost_kind(operation: OperationCost) -> CostKind:
    """The kind of cost that an operation belongs to."""
    if operation.elsewhere:
        return "elsewhere"
    match operation.kind:
        case "conv" | "conv_transpose" | "linear":
            return "convolution"
        case "einsum" | "matmul":
            return "product"
        case "softmax":
            return "softmax"
        case kind:
            return "movement" if kind in DATA_MOVEMENT else "elementwise"


def streamed_bytes(operation: OperationCost, on_chip: float) -> float:
    """Bytes of an operation's inputs and outputs that do not stay on the chip."""
    if operation.kind in _VIEWS:
        return 0.0
    larger = max(operation.input_bytes, operation.output_bytes)
    if operation.kind in ("einsum", "softmax") and len(operation.shape) == 4:
        larger //= operation.shape[2]
    share = max(0.0, 1.0 - on_chip / larger) if larger else 0.0
    return share * (operation.input_bytes + operation.output_bytes)


def operation_seconds(operation: OperationCost, device: Device, coefficients: Coefficients) -> float:
    """Seconds for one operation, ignoring its ``count`` and without dispatches."""
    kind = cost_kind(operation)
    if kind == "elsewhere":
        traffic = operation.input_bytes + operation.output_bytes + operation.weight_bytes
        return max(operation.flops / device.gpu, traffic / device.memory)
    bytes_ = streamed_bytes(operation, coefficients.on_chip)
    if kind == "elementwise":
        bytes_ *= coefficients.elementwise
    memory = bytes_ / (coefficients.stream * device.memory) + operation.weight_bytes / device.memory
    rate = device.peak * coefficients.compute
    match kind:
        case "convolution":
            arithmetic = operation.flops / rate
        case "product":
            arithmetic = operation.flops / (rate * PRODUCTS)
        case _:
            arithmetic = 0.0
    return max(arithmetic, memory) + coefficients.overhead


def dispatches(census: Census) -> int:
    """Count dispatches: one for the graph, and two for each run of consecutive operations that leaves the engine.

    Operations that leave the engine only because of their type do not interrupt it: in an fp16 export these are the
    time's fp32 path and the conversion of inputs and outputs, at the graph's ends. An entry that represents ``count``
    equal operations counts as that many runs.
    """
    runs = [0]
    for operation in census.operations:
        if interrupts_engine(operation):
            runs[-1] = max(runs[-1], operation.count)
        elif runs[-1]:
            runs.append(0)
    return 1 + 2 * sum(runs)


def interrupts_engine(operation: OperationCost) -> bool:
    """Whether an operation leaves the engine because of its kind or shape. A type as the reason is in capitals."""
    return operation.elsewhere != operation.elsewhere.upper()


def milliseconds_by_kind(census: Census, device: Device, coefficients: Coefficients) -> dict[CostKind, float]:
    """Milliseconds of one evaluation, per kind of cost."""
    seconds: defaultdict[CostKind, float] = defaultdict(float)
    for operation in census.operations:
        seconds[cost_kind(operation)] += operation.count * operation_seconds(operation, device, coefficients)
    seconds["dispatch"] = dispatches(census) * DISPATCH
    return {kind: 1000 * seconds[kind] for kind in COST_KINDS}


def milliseconds(census: Census, device: Device, coefficients: Coefficients) -> float:
    """Milliseconds of one evaluation of the graph."""
    return sum(milliseconds_by_kind(census, device, coefficients).values())


def memory_bytes(census: Census) -> int:
    """A lower bound for the running graph's memory: stored weights, and inputs and outputs of the largest operation.

    Which other tensors are alive at that time depends on Core ML's memory plan.
    """
    return census.stored_bytes + max((o.input_bytes + o.output_bytes for o in census.operations), default=0)

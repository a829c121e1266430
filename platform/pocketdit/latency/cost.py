"""The time of one evaluation of an exported graph, predicted from its census: a roofline for every operation.

An operation takes the longer of its arithmetic and its memory traffic (Williams et al. 2009), the graph takes the sum:

    time = sum of max(FLOP / rate, streamed bytes / (stream * memory) + weight bytes / memory) + dispatches

rate       ``compute`` (0.94 where not told) of the engine's peak for convolutions, 0.54 of that for products of two
           activations. Softmax and elementwise operations have traffic alone: the engine's rates for them are not
           published.
streamed   the part of inputs and outputs that does not stay in the engine's working set of 2 MiB: of an operation whose
           larger side has s bytes, the share max(0, 1 - 2 MiB / s). The blocks of blockwise attention (axis 2 of its
           tensors) are worked on one after another, so there s is one block's.
stream     bandwidth of that traffic over the nominal bandwidth of memory: more than 1, because the system level cache
           (24 MB in the A18 Pro) serves part of it. This is what is fitted.
weights    are read from memory once, as they are stored: a palette saves traffic, and no arithmetic.
elsewhere  operations that leave the engine pay a dispatch for each way, their traffic at the memory's bandwidth and
           their arithmetic at the GPU's rate.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from pocketdit.export.census import MOVES, Census, OperationCost
from pocketdit.latency.devices import DISPATCH, ON_CHIP, PRODUCTS, SUSTAINED, Device

Kind = Literal["convolution", "product", "softmax", "elementwise", "movement", "elsewhere", "dispatch"]
KINDS: tuple[Kind, ...] = ("convolution", "product", "softmax", "elementwise", "movement", "elsewhere", "dispatch")
# A view of the same numbers in memory.
_VIEWS = {"reshape", "split", "expand_dims", "squeeze", "identity", "slice_by_index", "slice_by_size", "cast"}


@dataclass(frozen=True)
class Coefficients:
    """What calibration may fit; the rest of the model is published figures (``devices``).

    ``stream``, ``compute``: see the module. ``elementwise``: share of elementwise traffic that fusion leaves.
    ``overhead``: seconds for every operation. ``on_chip``: bytes of the working set.
    """

    stream: float
    compute: float = SUSTAINED
    elementwise: float = 1.0
    overhead: float = 0.0
    on_chip: float = ON_CHIP


def kind_of(operation: OperationCost) -> Kind:
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
            return "movement" if kind in MOVES else "elementwise"


def streamed_bytes(operation: OperationCost, on_chip: float) -> float:
    """What of an operation's inputs and outputs does not stay on the chip."""
    if operation.kind in _VIEWS:
        return 0.0
    side = max(operation.input_bytes, operation.output_bytes)
    if operation.kind in ("einsum", "softmax") and len(operation.shape) == 4:
        side //= operation.shape[2]
    share = max(0.0, 1.0 - on_chip / side) if side else 0.0
    return share * (operation.input_bytes + operation.output_bytes)


def operation_seconds(operation: OperationCost, device: Device, coefficients: Coefficients) -> float:
    """Of one such operation (``count`` left out), dispatches left out."""
    kind = kind_of(operation)
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
    """One for the graph and two for every stretch of operations that leaves the engine and comes back to it.

    What is away for its type alone is no interruption: in an fp16 export that is the time's fp32 path and the
    conversion of inputs and outputs, which stand at the graph's ends. Where equal operations stand as one with their
    ``count``, there are as many stretches.
    """
    stretches = [0]
    for operation in census.operations:
        if interrupts(operation):
            stretches[-1] = max(stretches[-1], operation.count)
        elif stretches[-1]:
            stretches.append(0)
    return 1 + 2 * sum(stretches)


def interrupts(operation: OperationCost) -> bool:
    """Whether it is away for what it is; MIL's names of types, the other reason, are in capitals."""
    return operation.elsewhere != operation.elsewhere.upper()


def by_kind(census: Census, device: Device, coefficients: Coefficients) -> dict[Kind, float]:
    """Milliseconds of every class of operations."""
    seconds: defaultdict[Kind, float] = defaultdict(float)
    for operation in census.operations:
        seconds[kind_of(operation)] += operation.count * operation_seconds(operation, device, coefficients)
    seconds["dispatch"] = dispatches(census) * DISPATCH
    return {kind: 1000 * seconds[kind] for kind in KINDS}


def milliseconds(census: Census, device: Device, coefficients: Coefficients) -> float:
    """Of one evaluation of the graph."""
    return sum(by_kind(census, device, coefficients).values())


def memory_bytes(census: Census) -> int:
    """Of the running graph: its weights as stored and the operation with the most inputs and outputs.

    A lower bound: what else is alive meanwhile depends on Core ML's plan.
    """
    return census.stored_bytes + max((o.input_bytes + o.output_bytes for o in census.operations), default=0)

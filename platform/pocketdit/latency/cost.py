"""A cost model for exported graphs: arithmetic and memory traffic of each operation, from the census of the graph.

The latency of a graph is the total time of its operations and dispatches:

    time = sum of FLOP / rate + (streamed - spilled) / (stream * memory) + (spilled + weights) / memory

rate       The arithmetic rate. For convolutions, it is ``compute`` (0.94 by default) times the engine's peak. For
           products of two activations, it is 0.54 times the rate for convolutions. The arithmetic of softmax and
           elementwise operations is ignored, because the engine's rates for these operations are not published.
streamed   The part of the inputs and outputs that does not fit into the engine's working set of 2 MiB. Let s be the
           size of the inputs or of the outputs, whichever is larger. Then the fraction max(0, 1 - 2 MiB / s) of the
           inputs and outputs is streamed. The blocks of blockwise attention (axis 2 of its tensors) are processed one
           after another, so s is the size of one block.
stream     The bandwidth of this traffic divided by the nominal memory bandwidth. It is greater than 1, because the
           system-level cache serves part of the traffic. This coefficient is fitted.
spilled    The part that does not even fit into the system-level cache (24 MB in the A18 Pro), by the same formula. It
           is transferred at the nominal memory bandwidth. Only decoders have such large tensors.
weights    Weights are read from memory once, in their stored form. A palette reduces traffic but not arithmetic.
elsewhere  Entering and leaving the engine cost one dispatch each. Operations outside the engine take as long as their
           arithmetic on the GPU or their traffic, whichever takes longer (a roofline model, Williams et al. 2009).

Within the engine, the times of arithmetic and traffic are added. A model in which the two overlap perfectly predicts
graphs that were left out of the fit less accurately (see ``benchmarks.latency_variants``).
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, get_args

from pocketdit.export.common.census import DATA_MOVEMENT, Census, OperationCost
from pocketdit.latency.devices import DISPATCH, ON_CHIP, PRODUCTS, SUSTAINED, Device

CostKind = Literal["convolution", "product", "softmax", "elementwise", "movement", "elsewhere", "dispatch"]
COST_KINDS: tuple[CostKind, ...] = get_args(CostKind)
# Operations whose output shares memory with their input.
_VIEWS = {"reshape", "split", "expand_dims", "squeeze", "identity", "slice_by_index", "slice_by_size", "cast"}


@dataclass(frozen=True)
class Coefficients:
    """Parameters of the model that can be fitted. All others are published figures (see ``devices``).

    Attributes:
        stream: Bandwidth of streamed traffic, relative to the nominal memory bandwidth.
        compute: Arithmetic rate of convolutions, relative to the peak of the engine.
        elementwise: Fraction of elementwise traffic that remains after fusion.
        overhead: Fixed time per operation in seconds.
        on_chip: Working set of the engine in bytes.
    """

    stream: float
    compute: float = SUSTAINED
    elementwise: float = 1.0
    overhead: float = 0.0
    on_chip: float = ON_CHIP


def cost_kind(operation: OperationCost) -> CostKind:
    """Return the kind of cost that an operation is counted as."""
    if operation.elsewhere:
        return "elsewhere"
    match operation.kind:
        case "conv" | "conv_transpose" | "linear":
            return "convolution"
        case "einsum" | "matmul" | "scaled_dot_product_attention":
            return "convolution" if operation.weight_bytes else "product"
        case "softmax":
            return "softmax"
        case kind:
            return "movement" if kind in DATA_MOVEMENT else "elementwise"


def bytes_beyond(operation: OperationCost, capacity: float) -> float:
    """Return how many bytes of an operation's inputs and outputs do not fit into a memory of ``capacity`` bytes."""
    if operation.kind in _VIEWS:
        return 0.0
    larger = max(operation.input_bytes, operation.output_bytes)
    if operation.kind in ("einsum", "softmax") and len(operation.shape) == 4:
        larger //= operation.shape[2]
    share = max(0.0, 1.0 - capacity / larger) if larger else 0.0
    return share * (operation.input_bytes + operation.output_bytes)


def operation_seconds(operation: OperationCost, device: Device, coefficients: Coefficients) -> float:
    """Return the time of a single operation in seconds, without dispatches. The operation's ``count`` is ignored."""
    if operation.elsewhere:
        traffic = operation.input_bytes + operation.output_bytes + operation.weight_bytes
        return max(operation.flops / device.gpu, traffic / device.memory)
    arithmetic = arithmetic_seconds(operation, device, coefficients)
    return arithmetic + traffic_seconds(operation, device, coefficients) + coefficients.overhead


def arithmetic_seconds(operation: OperationCost, device: Device, coefficients: Coefficients) -> float:
    """Return how long the arithmetic of one operation takes on the engine, in seconds."""
    rate = device.peak * coefficients.compute
    match cost_kind(operation):
        case "convolution":
            return operation.flops / rate
        case "product":
            return operation.flops / (rate * PRODUCTS)
        case _:
            return 0.0


def traffic_seconds(operation: OperationCost, device: Device, coefficients: Coefficients) -> float:
    """Return how long the engine takes to transfer an operation's inputs, outputs and weights, in seconds."""
    spilled = bytes_beyond(operation, max(device.cache, coefficients.on_chip))
    cached = bytes_beyond(operation, coefficients.on_chip) - spilled
    fused = coefficients.elementwise if cost_kind(operation) == "elementwise" else 1.0
    return (fused * (cached / coefficients.stream + spilled) + operation.weight_bytes) / device.memory


def dispatches(census: Census) -> int:
    """Count dispatches: one for the graph, and two for each sequence of consecutive operations outside the engine.

    Operations that run outside the engine only because of their dtype do not interrupt the engine. In an fp16 export,
    these operations are at the ends of the graph: the time embedding in fp32, and the conversion of inputs and outputs.
    A census entry that represents ``count`` equal operations counts as ``count`` separate sequences.
    """
    sequences = [0]
    for operation in census.operations:
        if interrupts_engine(operation):
            sequences[-1] = max(sequences[-1], operation.count)
        elif sequences[-1]:
            sequences.append(0)
    return 1 + 2 * sum(sequences)


def interrupts_engine(operation: OperationCost) -> bool:
    """Return whether an operation runs outside the engine because of its kind or shape, rather than its dtype.

    The two cases can be distinguished because only dtypes are written in capitals in ``elsewhere``.
    """
    return operation.elsewhere != operation.elsewhere.upper()


def milliseconds_by_kind(census: Census, device: Device, coefficients: Coefficients) -> dict[CostKind, float]:
    """Return the milliseconds that each kind of cost contributes to the latency of one evaluation of the graph."""
    seconds: defaultdict[CostKind, float] = defaultdict(float)
    for operation in census.operations:
        seconds[cost_kind(operation)] += operation.count * operation_seconds(operation, device, coefficients)
    seconds["dispatch"] = dispatches(census) * DISPATCH
    return {kind: 1000 * seconds[kind] / device.speed for kind in COST_KINDS}


def milliseconds(census: Census, device: Device, coefficients: Coefficients) -> float:
    """Return the latency of one evaluation of the graph in milliseconds."""
    return sum(milliseconds_by_kind(census, device, coefficients).values())


def memory_bytes(census: Census) -> int:
    """Return a lower bound on the memory of the running graph in bytes.

    The bound covers the stored weights and the inputs and outputs of the largest operation. Which other tensors are in
    memory at the same time depends on Core ML.
    """
    return census.stored_bytes + max((o.input_bytes + o.output_bytes for o in census.operations), default=0)

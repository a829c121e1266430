"""Variants of the latency model: the chosen one and the rejected ones.

A coefficient is added to the model only if it reduces both the error for rungs that are left out of the fit to the
ladder and the error for graphs that no variant is fitted to. ``benchmarks.latency_calibration`` prints both errors for
all variants. ``benchmarks.latency_readings`` prints them for several readings of the details that the paper does not
specify.

Three explanations for the long latency of (A) are not among the variants, because they predict the same cost per layer
for (A) and (B), so that (A) takes at most 2.2 times as long as (B). They are a lack of memory (the weights and the
largest tensors of (A) and (B) differ by 5%), logits that exceed the system-level cache (the logits of (A) and (B) have
the same size), and power (in the paper, (B) moves 60% more bytes per second than (A) without being slowed down).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from pocketdit.export.common.census import Census, OperationCost
from pocketdit.latency.cost import (
    Coefficients,
    arithmetic_seconds,
    bytes_beyond,
    milliseconds,
    operation_seconds,
    traffic_seconds,
)
from pocketdit.latency.devices import DISPATCH, Device
from pocketdit.latency.fit import Variant

CHOSEN = Variant("arithmetic, cache and memory (chosen)", ("stream",))
RAM = 8e9  # bytes of memory of the iPhone 16 Pro Max


@dataclass(frozen=True)
class TriedCoefficients(Coefficients):
    """Coefficients of rejected variants.

    Attributes:
        softmax: Number of softmax elements computed per second.
        heat: Relative slowdown per second of evaluation time.
        pressure: Relative slowdown of the memory if an evaluation streams ``RAM`` bytes.
    """

    softmax: float = 1e11
    heat: float = 0.1
    pressure: float = 0.1


def sum_of(seconds: Callable[[OperationCost, Device, TriedCoefficients], float]) -> Callable[..., float]:
    """Return a latency function that adds up the times of all operations, as computed by ``seconds``."""

    def latency(census: Census, device: Device, coefficients: TriedCoefficients) -> float:
        return 1000 * sum(o.count * seconds(o, device, coefficients) for o in census.operations)

    return latency


def without_cache(census: Census, device: Device, coefficients: Coefficients) -> float:
    """Stream all traffic at the same bandwidth, however large the tensors are."""
    return milliseconds(census, replace(device, cache=float("inf")), coefficients)


def overlapping(operation: OperationCost, device: Device, coefficients: Coefficients) -> float:
    """Overlap arithmetic and traffic perfectly, as a roofline model does (Williams et al. 2009)."""
    if operation.elsewhere:
        return operation_seconds(operation, device, coefficients)
    return max(arithmetic_seconds(operation, device, coefficients), traffic_seconds(operation, device, coefficients))


def overlapping_without_cache(operation: OperationCost, device: Device, coefficients: Coefficients) -> float:
    """Overlap arithmetic and traffic, and stream all traffic at the same bandwidth, however large the tensors are."""
    return overlapping(operation, replace(device, cache=float("inf")), coefficients)


def with_softmax_rate(operation: OperationCost, device: Device, coefficients: TriedCoefficients) -> float:
    """Limit the number of softmax elements per second."""
    seconds = operation_seconds(operation, device, coefficients)
    elements = operation.output_bytes / 2
    return max(seconds, elements / coefficients.softmax) if operation.kind == "softmax" else seconds


def large_logits_on_gpu(operation: OperationCost, device: Device, coefficients: Coefficients) -> float:
    """Run attention on the GPU if its logits exceed the Neural Engine's working set."""
    large = operation.kind in ("einsum", "softmax") and bytes_beyond(operation, coefficients.on_chip) > 0
    return operation_seconds(replace(operation, elsewhere="logits" if large else ""), device, coefficients)


def segments(operation: OperationCost, device: Device, coefficients: Coefficients) -> float:
    """Add the cost of a dispatch for every operation that exceeds the Neural Engine's working set."""
    large = bytes_beyond(operation, coefficients.on_chip) > 0
    return operation_seconds(operation, device, coefficients) + (DISPATCH if large else 0.0)


def heat(census: Census, device: Device, coefficients: TriedCoefficients) -> float:
    """Slow down an evaluation in proportion to its duration."""
    cold = milliseconds(census, device, coefficients)
    return cold * (1 + coefficients.heat * cold / 1000)


def memory_pressure(census: Census, device: Device, coefficients: TriedCoefficients) -> float:
    """Reduce the memory bandwidth as the number of bytes that an evaluation streams grows."""
    streamed = sum(o.count * bytes_beyond(o, coefficients.on_chip) for o in census.operations)
    slower = replace(device, memory=device.memory / (1 + coefficients.pressure * streamed / RAM))
    return milliseconds(census, slower, coefficients)


_START = TriedCoefficients(stream=2.0)
OTHERS = (
    Variant("overlap, without cache (previous model)", ("stream",), latency=sum_of(overlapping_without_cache)),
    Variant("overlap of arithmetic and traffic", ("stream",), latency=sum_of(overlapping)),
    Variant("without system-level cache", ("stream",), latency=without_cache),
    Variant("arithmetic only", ("compute",), Coefficients(stream=1e9, on_chip=1e12)),
    Variant("all traffic streamed", ("stream",), Coefficients(stream=2.0, on_chip=0.0)),
    Variant("three quarters of elementwise operations fused", ("stream",), Coefficients(stream=2.0, elementwise=0.25)),
    Variant("working set 1 MiB", ("stream",), Coefficients(stream=2.0, on_chip=2**20)),
    Variant("working set 4 MiB", ("stream",), Coefficients(stream=2.0, on_chip=2**22)),
    Variant("logits over 2 MiB run on the GPU", ("stream",), latency=sum_of(large_logits_on_gpu)),
    Variant("one dispatch per operation over 2 MiB", ("stream",), latency=sum_of(segments)),
    Variant("bandwidth and share of peak compute", ("stream", "compute"), Coefficients(stream=2.0, compute=0.7)),
    Variant("bandwidth and overhead per operation", ("stream", "overhead"), Coefficients(stream=2.0, overhead=1e-6)),
    Variant("bandwidth and rate of softmax", ("stream", "softmax"), _START, sum_of(with_softmax_rate)),
    Variant("bandwidth and heat", ("stream", "heat"), _START, heat),
    Variant("bandwidth and memory pressure", ("stream", "pressure"), _START, memory_pressure),
)

"""Tests that the cost model matches manual calculations, and that it never predicts more work to be faster."""

import math
from dataclasses import replace
from typing import Any

import pytest

from pocketdit.errors import ConfigError
from pocketdit.export.common.census import Census, OperationCost
from pocketdit.latency.cost import (
    Coefficients,
    bytes_beyond,
    cost_kind,
    dispatches,
    memory_bytes,
    milliseconds,
    milliseconds_by_kind,
    operation_seconds,
)
from pocketdit.latency.devices import DEVICES, DISPATCH, PRODUCTS, Device, find_device

DEVICE = Device("test", "test", peak=1e12, memory=1e9, gpu=1e11, cache=1e9)
COEFFICIENTS = Coefficients(stream=2.0, compute=0.5, on_chip=1000)
CONV = OperationCost("a", "conv", (1, 8, 1, 4), flops=1_000_000_000, input_bytes=500, output_bytes=500)


def test_arithmetic_of_convolutions_and_products() -> None:
    assert operation_seconds(CONV, DEVICE, COEFFICIENTS) == pytest.approx(1e9 / 0.5e12)
    product = replace(CONV, kind="einsum")
    assert operation_seconds(product, DEVICE, COEFFICIENTS) == pytest.approx(1e9 / (0.5e12 * PRODUCTS))


def test_core_ais_fused_attention_is_a_product_and_its_linear_layers_are_not() -> None:
    assert cost_kind(replace(CONV, kind="scaled_dot_product_attention")) == "product"
    assert cost_kind(replace(CONV, kind="matmul")) == "product"
    assert cost_kind(replace(CONV, kind="matmul", weight_bytes=10)) == "convolution"


def test_traffic_that_exceeds_the_working_set() -> None:
    # A share of 1 - 1000/4000 of the inputs and outputs is streamed: 0.75 * (4000 + 2000) bytes at 2 * 1 GB/s.
    add = OperationCost("a", "add", (1, 1, 1, 1000), flops=1000, input_bytes=4000, output_bytes=2000)
    assert bytes_beyond(add, 1000) == pytest.approx(4500)
    assert operation_seconds(add, DEVICE, COEFFICIENTS) == pytest.approx(4500 / 2e9)
    assert operation_seconds(add, DEVICE, replace(COEFFICIENTS, elementwise=0.25)) == pytest.approx(4500 / 8e9)
    assert operation_seconds(add, DEVICE, replace(COEFFICIENTS, overhead=1e-6)) == pytest.approx(4500 / 2e9 + 1e-6)


def test_tensors_that_exceed_the_cache_are_read_from_memory() -> None:
    # 75% of the 6000 bytes leave the engine. 50% also exceed the cache, so 3000 bytes are read at 1 GB/s and the
    # remaining 1500 bytes at 2 GB/s.
    add = OperationCost("a", "add", (1, 1, 1, 1000), flops=1000, input_bytes=4000, output_bytes=2000)
    small = replace(DEVICE, cache=2000)
    assert operation_seconds(add, small, COEFFICIENTS) == pytest.approx(1500 / 2e9 + 3000 / 1e9)
    # A cache that is smaller than the working set makes no difference.
    tiny = replace(DEVICE, cache=10)
    assert operation_seconds(add, tiny, COEFFICIENTS) == pytest.approx(4500 / 1e9)


def test_attention_blocks_are_processed_one_after_another() -> None:
    softmax = OperationCost("a", "softmax", (1, 25, 10, 20), flops=0, input_bytes=10_000, output_bytes=10_000)
    assert bytes_beyond(softmax, 1000) == 0
    assert bytes_beyond(replace(softmax, shape=(1, 250, 1, 20)), 1000) == pytest.approx(0.9 * 20_000)


def test_reading_weights_adds_to_arithmetic() -> None:
    heavy = replace(CONV, weight_bytes=10_000_000)
    assert operation_seconds(heavy, DEVICE, COEFFICIENTS) == pytest.approx(1e9 / 0.5e12 + 10e6 / 1e9)


def test_views_are_free() -> None:
    view = OperationCost("a", "reshape", (1, 1, 1, 1000), flops=0, input_bytes=10**6, output_bytes=10**6)
    assert operation_seconds(view, DEVICE, COEFFICIENTS) == 0
    assert operation_seconds(replace(view, kind="transpose"), DEVICE, COEFFICIENTS) > 0


def test_leaving_the_engine_costs_dispatches() -> None:
    fp32 = replace(CONV, elsewhere="FLOAT32", dtype="FLOAT32", flops=10**10)
    assert cost_kind(fp32) == "elsewhere"
    assert operation_seconds(fp32, DEVICE, COEFFICIENTS) == pytest.approx(0.1)
    # An operation in a data type other than fp16 adds no dispatches, but an unsupported operation does.
    assert dispatches(Census((fp32, CONV, fp32, CONV))) == 1
    gather = replace(CONV, kind="gather", elsewhere="gather")
    assert dispatches(Census((CONV, gather, gather, CONV, gather, CONV))) == 5
    assert dispatches(Census((CONV, replace(gather, count=4), CONV))) == 9


def test_latency_of_a_graph_is_the_sum_of_its_operations() -> None:
    merged = Census((replace(CONV, count=3), replace(CONV, kind="einsum")))
    expected = 3 * 2e-3 + 2e-3 / PRODUCTS + DISPATCH
    assert milliseconds(merged, DEVICE, COEFFICIENTS) == pytest.approx(1000 * expected)
    parts = milliseconds_by_kind(merged, DEVICE, COEFFICIENTS)
    assert parts["convolution"] == pytest.approx(6)
    assert parts["dispatch"] == pytest.approx(1000 * DISPATCH)
    separate = Census((CONV, CONV, CONV, replace(CONV, kind="einsum")))
    assert milliseconds(separate, DEVICE, COEFFICIENTS) == pytest.approx(1000 * expected)


@pytest.mark.parametrize("kind", ["conv", "einsum", "softmax", "add", "transpose", "reshape"])
@pytest.mark.parametrize("elsewhere", ["", "FLOAT32"])
@pytest.mark.parametrize("increased", ["flops", "input_bytes", "output_bytes", "weight_bytes", "count"])
def test_more_work_is_never_faster(kind: str, elsewhere: str, increased: str) -> None:
    operation = OperationCost("a", kind, (1, 8, 2, 4), 10**6, 900, 1100, 100, elsewhere=elsewhere)
    before = 0.0
    for factor in (1, 1.5, 2, 10, 1000, 10**6):
        changes: dict[str, Any] = {increased: int(factor * getattr(operation, increased))}
        larger = replace(operation, **changes)
        current = milliseconds(Census((larger,)), DEVICE, COEFFICIENTS)
        assert current >= before
        before = current


def test_memory_is_weights_and_the_largest_operation() -> None:
    graph = Census((replace(CONV, weight_bytes=7, count=2), replace(CONV, input_bytes=10_000)), stored_bytes=7)
    assert memory_bytes(graph) == 7 + 10_500


def test_devices() -> None:
    assert [device.name for device in DEVICES.values() if device.calibrated] == ["iphone16promax"]
    assert all(name == device.name and math.isfinite(device.peak) for name, device in DEVICES.items())
    with pytest.raises(ConfigError, match="iphone16promax"):
        find_device("iphone16promx")


def test_device_described_by_a_ratio_is_faster_by_that_ratio() -> None:
    graph = Census((CONV, replace(CONV, kind="gather", elsewhere="gather")))
    reference, snapdragon = find_device("iphone14pro"), find_device("snapdragon8gen3")
    assert snapdragon.speed == pytest.approx(1000 / 2.69 / 2 / 68.335)
    ratio = milliseconds(graph, reference, COEFFICIENTS) / milliseconds(graph, snapdragon, COEFFICIENTS)
    assert ratio == pytest.approx(snapdragon.speed)

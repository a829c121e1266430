"""Tests that the census of small graphs matches manual calculations."""

from pathlib import Path

import numpy as np
from coremltools.converters.mil import Builder as mb

from pocketdit.export.common.budget import Budget
from pocketdit.export.common.census import Census, OperationCost
from pocketdit.export.common.census_report import census_table, exceeded_limits
from pocketdit.export.coreml.census import take_census
from tests.export.coreml.test_interpreter import save_package


def test_flops_and_bytes_of_a_small_graph(tmp_path: Path) -> None:
    weight = np.ones((10, 4, 1, 1), np.float32)

    def build(x: object) -> object:
        transposed = mb.transpose(x=x, perm=[0, 3, 2, 1])
        return mb.einsum(values=(mb.conv(x=x, weight=weight, strides=[1, 1]), transposed), equation="nchw,nwhu->nchu")

    costs = {o.kind: o for o in take_census(save_package(build, tmp_path)).operations}
    assert costs["transpose"].flops == 0
    conv, einsum = costs["conv"], costs["einsum"]
    assert conv.flops == 2 * 10 * 4 * 6 * 8
    assert conv.weight_bytes == 160
    assert conv.weight_bits == 32
    assert conv.input_bytes == 4 * 4 * 6 * 8
    assert conv.output_bytes == 4 * 10 * 6 * 8
    assert einsum.flops == 2 * 10 * 4 * 6 * 8
    assert einsum.shape == (1, 10, 6, 4)
    assert einsum.weight_bytes == 0
    assert conv.elsewhere == "FLOAT32"


def test_shared_weights_are_stored_once(tmp_path: Path) -> None:
    def twice(x: object) -> object:
        weight = mb.const(val=np.ones((4, 4, 1, 1), np.float32))
        return mb.conv(x=mb.conv(x=x, weight=weight), weight=weight)

    census = take_census(save_package(twice, tmp_path))
    assert census.weight_bytes == 2 * 64
    assert census.stored_bytes == 64


def test_unsupported_operations_leave_the_neural_engine(tmp_path: Path) -> None:
    package = save_package(lambda x: mb.gather(x=x, indices=[1, 2], axis=1), tmp_path)
    assert [o.elsewhere for o in take_census(package).operations] == ["gather"]


COSTS = (
    OperationCost("a", "conv", (1, 4), 10, 20, 30, 40, 16.0, count=1),
    OperationCost("b", "add", (1, 4), 4, 16, 8, elsewhere="FLOAT32", dtype="FLOAT32"),
    OperationCost("c", "conv", (1, 4), 10, 20, 30, 40, 16.0),
)


def test_json_round_trip() -> None:
    census = Census(COSTS, 77)
    assert Census.from_json(census.to_json()) == census


def test_merging_does_not_change_totals() -> None:
    census = Census(COSTS, 77)
    merged = census.merged()
    assert [(o.name, o.count) for o in merged.operations] == [("a", 2), ("b", 1)]
    for name in ("count", "flops", "weight_bytes", "activation_bytes", "stored_bytes"):
        assert getattr(merged, name) == getattr(census, name)
    assert merged.merged() == merged


def test_every_exceeded_limit_is_reported() -> None:
    census = Census(COSTS, 2_000_000).merged()
    assert exceeded_limits(census, Budget()) == []
    assert exceeded_limits(census, Budget(operations=3, elsewhere=1, weight_mb=2)) == []
    assert exceeded_limits(census, Budget(operations=2, elsewhere=0, weight_mb=1.5)) == [
        "budget.operations: the limit is 2, but the graph has 3",
        "budget.weight_mb: the limit is 1.5, but the graph has 2",
        "budget.elsewhere: the limit is 0, but the graph has 1",
    ]
    assert "operations outside the Neural Engine: 1 (FLOAT32: 1)" in census_table(census)

"""Costs by hand."""

from pathlib import Path

import numpy as np
from coremltools.converters.mil import Builder as mb

from pocketdit.export import census
from pocketdit.export.census import Census, OperationCost
from pocketdit.export.report import broken, table
from pocketdit.export.settings import Budget
from tests.export.test_interpreter import saved


def test_flops_and_bytes_of_a_small_graph(tmp_path: Path) -> None:
    weight = np.ones((10, 4, 1, 1), np.float32)

    def build(x: object) -> object:
        turned = mb.transpose(x=x, perm=[0, 3, 2, 1])
        return mb.einsum(values=(mb.conv(x=x, weight=weight, strides=[1, 1]), turned), equation="nchw,nwhu->nchu")

    found = {o.kind: o for o in census.take(saved(build, tmp_path)).operations}
    assert found["transpose"].flops == 0
    conv, einsum = found["conv"], found["einsum"]
    assert conv.flops == 2 * 10 * 4 * 6 * 8 and conv.weight_bytes == 160 and conv.weight_bits == 32
    assert conv.input_bytes == 4 * 4 * 6 * 8 and conv.output_bytes == 4 * 10 * 6 * 8
    assert einsum.flops == 2 * 10 * 4 * 6 * 8 and einsum.shape == (1, 10, 6, 4) and einsum.weight_bytes == 0
    assert conv.elsewhere == "FLOAT32"


def test_a_weight_that_two_read_is_stored_once(tmp_path: Path) -> None:
    def twice(x: object) -> object:
        weight = mb.const(val=np.ones((4, 4, 1, 1), np.float32))
        return mb.conv(x=mb.conv(x=x, weight=weight), weight=weight)

    taken = census.take(saved(twice, tmp_path))
    assert taken.weight_bytes == 2 * 64 and taken.stored_bytes == 64


def test_what_leaves_the_neural_engine(tmp_path: Path) -> None:
    package = saved(lambda x: mb.gather(x=x, indices=[1, 2], axis=1), tmp_path)
    assert [o.elsewhere for o in census.take(package).operations] == ["gather"]


COSTS = (
    OperationCost("a", "conv", (1, 4), 10, 20, 30, 40, 16.0, count=1),
    OperationCost("b", "add", (1, 4), 4, 16, 8, elsewhere="FLOAT32", dtype="FLOAT32"),
    OperationCost("c", "conv", (1, 4), 10, 20, 30, 40, 16.0),
)


def test_json_brings_it_back() -> None:
    taken = Census(COSTS, 77)
    assert Census.from_json(taken.to_json()) == taken


def test_merging_keeps_every_sum() -> None:
    taken = Census(COSTS, 77)
    merged = taken.merged()
    assert [(o.name, o.count) for o in merged.operations] == [("a", 2), ("b", 1)]
    for name in ("count", "flops", "weight_bytes", "activation_bytes", "stored_bytes"):
        assert getattr(merged, name) == getattr(taken, name)
    assert merged.merged() == merged


def test_a_budget_names_every_limit_that_is_exceeded() -> None:
    taken = Census(COSTS, 2_000_000).merged()
    assert broken(taken, Budget()) == []
    assert broken(taken, Budget(operations=3, elsewhere=1, weight_mb=2)) == []
    assert broken(taken, Budget(operations=2, elsewhere=0, weight_mb=1.5)) == [
        "budget.operations is 2, the graph has 3",
        "budget.weight_mb is 1.5, the graph has 2",
        "budget.elsewhere is 0, the graph has 1",
    ]
    assert "off the Neural Engine: 1 operations (1 by FLOAT32)" in table(taken)

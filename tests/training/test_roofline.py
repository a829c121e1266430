"""Tests for the predictions of the roofline model, with known values."""

from typing import Any

import pytest
from torch import nn

from pocketdit.training.cost import Pass
from pocketdit.training.gpus import BANDWIDTH, GPUS, LAUNCH, Gpu, find_gpu
from pocketdit.training.kernels import Kernel, Kernels
from pocketdit.training.roofline import Cluster, Exchange, kernel_seconds, step_time
from pocketdit.training.step_count import StepCount

GPU = Gpu("test", peak=1e12, bandwidth=1e9, memory=1e9, link=1e8, network=1e7, products=0.5, attention=0.25)


def test_a_kernel_takes_as_long_as_its_slower_resource() -> None:
    assert kernel_seconds(Kernel("product", 10**12, 1), GPU) == pytest.approx(2.0)
    assert kernel_seconds(Kernel("attention", 10**12, 1), GPU) == pytest.approx(4.0)
    assert kernel_seconds(Kernel("product", 1, 10**9), GPU) == pytest.approx(1 / BANDWIDTH)
    assert kernel_seconds(Kernel("other", 0, 10**9), GPU) == pytest.approx(1 / BANDWIDTH)


def test_the_longest_of_kernels_launches_and_communication_bounds_a_step() -> None:
    product, copy = Kernel("product", 10**12, 1), Kernel("other", 0, 10**9)
    alone, nodes = Cluster(), Cluster(16, 2, sharded=True)
    step = step_time({product: 1, copy: 1}, {}, Exchange(), GPU, alone)
    assert step.seconds == pytest.approx(2 + 1 / BANDWIDTH)
    assert step.bound == "matrix products"
    step = step_time({product: 1}, {}, Exchange(within=1e8), GPU, nodes)
    assert step.seconds == pytest.approx(10.0)
    assert step.bound == "communication"
    assert step_time({product: 1}, {}, Exchange(across=1e8), GPU, Cluster(8)).parts["communication"] == pytest.approx(
        1.0
    )
    tiny = Kernel("other", 0, 1)
    step = step_time({tiny: 1e6}, {}, Exchange(), GPU, alone)
    assert step.seconds == pytest.approx(1e6 * LAUNCH)
    assert step.bound == "kernel launches"
    assert step_time({}, {tiny: 1e6}, Exchange(), GPU, alone).parts["kernel launches"] == 0


def test_gpus_are_found_by_the_names_that_torch_reports() -> None:
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090")
    assert [find_gpu(name) for name in names] == list(GPUS)
    assert find_gpu("NVIDIA T4") is None


def test_hybrid_sharding_gathers_weights_within_a_node_and_sums_shards_of_gradients_across_nodes() -> None:
    network = nn.Linear(100, 10, bias=False)
    trained = Pass("trained", lambda: None, network, 1000)
    frozen = Pass("frozen", lambda: None, nn.Linear(10, 10, bias=False).requires_grad_(False), 100, trained=False)
    cost: Any = None  # the test does not use the cost
    count = StepCount(cost, [(trained, cost), (frozen, cost)], Kernels())
    exchanged = count.exchanged_bytes(Cluster(8, 2, sharded=True, group=4, weight_bytes=2))
    assert exchanged.within == pytest.approx((2 * 2000 + 4000 + 400) * 3 / 4)
    assert exchanged.across == pytest.approx(2 * 4000 / 4 / 2)
    everywhere = count.exchanged_bytes(Cluster(8, 2, sharded=True))
    assert everywhere == pytest.approx(((2 * 4000 + 4000 + 400) * 7 / 8, 0))
    assert count.exchanged_bytes(Cluster(8)) == pytest.approx((0, 2 * 4000 * 7 / 8))

    exchanged = Exchange(within=1e8, across=1e7)
    assert Cluster(8, 2, sharded=True, group=4).communication(exchanged, GPU) == pytest.approx(1 + 1)
    assert Cluster(8, 2, sharded=True).communication(exchanged, GPU) == pytest.approx(10 + 1)
    assert Cluster(8, 2, sharded=True, group=8).communication(exchanged, GPU) == pytest.approx(10 + 1)
    assert Cluster(4, 1, sharded=True).communication(exchanged, GPU) == pytest.approx(1 + 0.1)

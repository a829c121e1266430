"""Tests the predictions of the roofline model against known values."""

import pytest

from pocketdit.training.gpus import BANDWIDTH, GPUS, LAUNCH, Gpu, find_gpu
from pocketdit.training.kernels import Kernel
from pocketdit.training.roofline import Cluster, kernel_seconds, step_time

GPU = Gpu("test", peak=1e12, bandwidth=1e9, memory=1e9, link=1e8, network=1e7, products=0.5, attention=0.25)


def test_a_kernel_takes_as_long_as_its_slower_resource() -> None:
    assert kernel_seconds(Kernel("product", 10**12, 1), GPU) == pytest.approx(2.0)
    assert kernel_seconds(Kernel("attention", 10**12, 1), GPU) == pytest.approx(4.0)
    assert kernel_seconds(Kernel("product", 1, 10**9), GPU) == pytest.approx(1 / BANDWIDTH)
    assert kernel_seconds(Kernel("other", 0, 10**9), GPU) == pytest.approx(1 / BANDWIDTH)


def test_the_longest_of_kernels_launches_and_communication_bounds_a_step() -> None:
    product, copy = Kernel("product", 10**12, 1), Kernel("other", 0, 10**9)
    alone, nodes = Cluster(), Cluster(16, 2, sharded=True)
    step = step_time({product: 1, copy: 1}, {}, 1e8, GPU, alone)
    assert step.seconds == pytest.approx(2 + 1 / BANDWIDTH)
    assert step.bound == "matrix products"
    step = step_time({product: 1}, {}, 1e8, GPU, nodes)
    assert step.seconds == pytest.approx(10.0)
    assert step.bound == "communication"
    assert step_time({product: 1}, {}, 1e8, GPU, Cluster(8)).parts["communication"] == pytest.approx(1.0)
    tiny = Kernel("other", 0, 1)
    step = step_time({tiny: 1e6}, {}, 0, GPU, alone)
    assert step.seconds == pytest.approx(1e6 * LAUNCH)
    assert step.bound == "kernel launches"
    assert step_time({}, {tiny: 1e6}, 0, GPU, alone).parts["kernel launches"] == 0


def test_gpus_are_found_by_the_names_that_torch_reports() -> None:
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090")
    assert [find_gpu(name) for name in names] == list(GPUS)
    assert find_gpu("NVIDIA T4") is None

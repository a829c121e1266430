"""Predicts how long a training step takes on a GPU, from counted kernels and data sheets (Williams et al. 2009).

A kernel takes as long as its arithmetic or its memory traffic, whichever is longer. Kernels run one after another.
Kernel launches on the CPU and communication between GPUs overlap with the kernels, so a step takes as long as the
longest of the three. The predictions have not been compared with measurements on a GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pocketdit.training.gpus import BANDWIDTH, LAUNCH, Gpu
from pocketdit.training.kernels import Kernel, KernelKind

Bound = Literal["matrix products", "attention", "elementwise kernels", "kernel launches", "communication"]
KERNEL_BOUNDS: dict[KernelKind, Bound] = {
    "product": "matrix products", "attention": "attention", "other": "elementwise kernels",
}  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """The processes of a run, one per GPU.

    Attributes:
        processes: Number of processes.
        nodes: Number of machines.
        sharded: Whether FSDP2 shards the weights. Otherwise, every process stores all weights.
        group: Number of processes that share one copy of sharded weights. None means all processes.
        weight_bytes: Bytes per value when FSDP2 gathers trained weights.
        gradient_bytes: Bytes per value when FSDP2 averages gradients.
    """

    processes: int = 1
    nodes: int = 1
    sharded: bool = False
    group: int | None = None
    weight_bytes: int = 4
    gradient_bytes: int = 4

    @property
    def shards(self) -> int:
        """Number of parts into which the weights are divided."""
        return (self.group or self.processes) if self.sharded else 1

    def communication(self, exchanged: "Exchange", gpu: Gpu) -> float:
        """Predict how long a step's communication takes, in seconds. Groups within a node use its faster links."""
        within_node = self.nodes == 1 or self.shards <= self.processes // self.nodes
        group_link = gpu.link if within_node and self.sharded else self.link(gpu)
        return exchanged.within / group_link + exchanged.across / self.link(gpu)

    def link(self, gpu: Gpu) -> float:
        """Return the bandwidth of the slowest link between two processes in bytes/s."""
        return gpu.network if self.nodes > 1 else gpu.link


class Exchange(NamedTuple):
    """Number of bytes that a process receives from other processes.

    Attributes:
        within: Bytes from the processes that share a copy of the weights with this process.
        across: Bytes from the processes with other copies of the weights.
    """

    within: float = 0.0
    across: float = 0.0


@dataclass(frozen=True)
class StepTime:
    """The predicted duration of a training step.

    Attributes:
        parts: Duration in seconds of each part of the step. The kernels run one after another; kernel launches and
            communication overlap with them.
    """

    parts: Mapping[Bound, float]

    @property
    def kernels(self) -> float:
        """Total duration of all kernels in seconds."""
        return sum(self.parts[bound] for bound in KERNEL_BOUNDS.values())

    @property
    def seconds(self) -> float:
        """Duration of the step in seconds."""
        return max(self.kernels, self.parts["kernel launches"], self.parts["communication"])

    @property
    def bound(self) -> Bound:
        """The part that takes the longest, which bounds the duration of the step."""
        for bound in ("kernel launches", "communication"):
            if self.parts[bound] == self.seconds and self.parts[bound] > self.kernels:
                return bound
        return max(KERNEL_BOUNDS.values(), key=self.parts.__getitem__)


def kernel_seconds(kernel: Kernel, gpu: Gpu) -> float:
    """Predict how long one kernel launch takes, in seconds."""
    rate = gpu.peak * (gpu.attention if kernel.kind == "attention" else gpu.products)
    return max(kernel.flops / rate, kernel.bytes / (gpu.bandwidth * BANDWIDTH))


def step_time(
    batch: Mapping[Kernel, float], update: Mapping[Kernel, float], exchanged: Exchange, gpu: Gpu, cluster: Cluster
) -> StepTime:
    """Predict how long a step takes.

    Args:
        batch: Number of launches of each kernel for all batches of a step, on average over many steps.
        update: Number of launches of each kernel for the weight update. Each launch updates many weights at once, so
            the time for launching these kernels is ignored.
        exchanged: Bytes that each process receives from the others during the step.
        gpu: The GPU.
        cluster: The processes of the run.
    """
    parts: dict[Bound, float] = dict.fromkeys(KERNEL_BOUNDS.values(), 0.0)
    for kernel, launches in (*batch.items(), *update.items()):
        parts[KERNEL_BOUNDS[kernel.kind]] += launches * kernel_seconds(kernel, gpu)
    parts["kernel launches"] = sum(batch.values()) * LAUNCH
    parts["communication"] = cluster.communication(exchanged, gpu)
    return StepTime(parts)

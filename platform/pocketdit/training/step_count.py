"""Counts the kernels, memory and communication of a training step from the passes that a stage declares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from pocketdit.training.cost import (
    Pass,
    PassCount,
    StageCost,
    bytes_of,
    count_pass,
    fastest_seconds,
    precision_context,
    run_pass,
)
from pocketdit.training.gpus import Gpu
from pocketdit.training.kernels import Kernel, KernelCounter, Kernels
from pocketdit.training.roofline import Cluster, Exchange, StepTime, step_time


@dataclass(frozen=True)
class StepCount:
    """What a training step costs each process, as counted by running its passes and its update once.

    Attributes:
        cost: What the stage computes.
        passes: The passes of a batch, with their counts.
        update: Number of launches of each kernel for the weight update. Empty if the step was timed.
    """

    cost: StageCost
    passes: Sequence[tuple[Pass, PassCount]]
    update: Kernels

    def batch_flops(self) -> float:
        """Return the average FLOPs of a batch."""
        return sum(step.per_batch * count.flops for step, count in self.passes)

    def batch_kernels(self) -> dict[Kernel, float]:
        """Return the average number of launches of each kernel per batch, excluding the update."""
        launches: dict[Kernel, float] = {}
        for step, count in self.passes:
            for kernel, number in (count.forward + count.backward).items():
                launches[kernel] = launches.get(kernel, 0.0) + step.per_batch * number
        return launches

    def time(self, gpu: Gpu, cluster: Cluster, accumulate: int) -> StepTime:
        """Predict how long a step of ``accumulate`` batches takes on a GPU."""
        batches = {kernel: accumulate * launches for kernel, launches in self.batch_kernels().items()}
        update = {kernel: launches / cluster.shards for kernel, launches in self.update.items()}
        within, across = self.exchanged_bytes(cluster)
        return step_time(batches, update, Exchange(accumulate * within, accumulate * across), gpu, cluster)

    def exchanged_bytes(self, cluster: Cluster) -> Exchange:
        """Return how many bytes a process receives from the others per batch.

        FSDP2 gathers the weights in the forward and in the backward pass, and scatters the gradients. If there are
        several copies of the weights, each process then sums its shard of the gradients with the other copies. DDP sums
        all gradients after every backward pass. To compute a sum, every byte is transferred twice.
        """
        group, copies, within, across = cluster.shards, cluster.processes // cluster.shards, 0.0, 0.0
        for step, _ in self.passes:
            gradients = sum(p.nbytes for p in step.network.parameters() if p.requires_grad) if step.trained else 0
            if cluster.sharded and step.sharded:
                weights = gathered_bytes(step, bytes_of(step.network), cluster)
                gradients = gradients * cluster.gradient_bytes // 4
                within += step.per_batch * ((1 + step.trained) * weights + gradients) * (group - 1) / group
                across += step.per_batch * 2 * gradients / group * (copies - 1) / copies
            else:
                across += step.per_batch * 2 * gradients * (cluster.processes - 1) / cluster.processes
        return Exchange(within, across)

    def memory(self, cluster: Cluster) -> dict[str, int]:
        """Return how many bytes of memory a process needs for each purpose."""
        cost, shards = self.cost, cluster.shards
        stored = {name: size // shards for name, size in cost.memory.items()} | dict(cost.replicated)
        if cluster.sharded:
            return stored | {
                "gradients": cost.gradients // shards,
                "gathered weights": max(
                    gathered_bytes(step, two_blocks(step.network), cluster) for step, _ in self.passes if step.sharded
                ),
                "activations": max(count.working_peak for _, count in self.passes),
            }
        return stored | {"gradients and activations": max(step.held + count.peak for step, count in self.passes)}


def gathered_bytes(step: Pass, stored: int, cluster: Cluster) -> int:
    """Return the size of gathered weights in bytes. The weights of frozen networks are gathered in their own dtype.

    Args:
        step: The pass that needs the weights.
        stored: Size of the stored weights in bytes. Trained weights are stored in fp32.
        cluster: The processes of the run.
    """
    return stored * cluster.weight_bytes // 4 if step.trained else stored


def two_blocks(network: nn.Module) -> int:
    """Return the size of two transformer blocks in bytes. FSDP2 gathers the weights of two blocks at a time."""
    lists = [part for part in network.modules() if isinstance(part, nn.ModuleList)]
    return 2 * max((bytes_of(block) for block in max(lists, key=len, default=())), default=0)


def count_step(cost: StageCost, device: torch.device, bf16: bool) -> StepCount:
    """Run the passes and the update of a step once on a device, and count what they cost.

    The meta device represents a GPU.
    """
    with precision_context(device, bf16):
        passes = [(step, count_pass(step)) for step in cost.passes(device)]
    return StepCount(cost, passes, count_update(cost.update(device)))


def measure_step(cost: StageCost, device: torch.device, bf16: bool, accumulate: int) -> tuple[StepCount, float]:
    """Count and time a training step on a device.

    Args:
        cost: What the stage computes.
        device: Any device except the meta device.
        bf16: Whether the step uses autocast.
        accumulate: Number of batches per step.

    Returns:
        The count, and how long a step takes on average, in seconds.
    """
    passes, seconds = [], 0.0
    with precision_context(device, bf16):
        for step in cost.passes(device):
            passes.append((step, count_pass(step)))  # also warms up the device
            seconds += accumulate * step.per_batch * fastest_seconds(partial(run_pass, step))
    update = cost.update(device)
    update()  # warms up the device
    return StepCount(cost, passes, Kernels()), seconds + fastest_seconds(update)


def count_update(update: Callable[[], None]) -> Kernels:
    """Run a weight update and return the number of launches of each kernel."""
    counter = KernelCounter()
    with counter:
        update()
    return counter.kernels

"""Cost estimates of training steps. Parameters, FLOPs, and memory are counted, and time is measured.

Counting uses the meta device, where tensors have shapes but no storage.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pocketdit.backbones.dit import ElasticDiT, extract_subnetwork
from pocketdit.backbones.spec import DiTSpec
from pocketdit.config.component import Component, build
from pocketdit.encoders.contract import TextTokens

CLIP_TOKENS = 77
TIMED_STEPS = 3


@dataclass(frozen=True)
class NetworkCost:
    """The cost of one network on one batch.

    Attributes:
        label: Name of the network in tables, for example "0.5x".
        parameters: Number of parameters.
        forward: FLOPs of the forward pass for one batch.
        backward: FLOPs of the backward pass for one batch.
        saved: Size in bytes of the float32 activations that autograd saves for the backward pass.
    """

    label: str
    parameters: int
    forward: float
    backward: float = 0.0
    saved: int = 0


@dataclass(frozen=True)
class StageCost:
    """The cost of a stage's training step on one process.

    Attributes:
        networks: Costs of the networks that the stage trains.
        image_size: Side length of the training images in pixels.
        batch_flops: FLOPs of all passes for one batch.
        time_batch: Function that measures how many seconds one batch and one optimizer step take on the CPU.
        sharded_memory: Memory that FSDP2 shards across processes, in bytes by purpose.
        memory: Memory per process that FSDP2 does not shard, in bytes by purpose.
        memory_not_counted: Items that the memory estimate excludes, for display.
        time_not_counted: Items that the time estimate excludes, for display.
    """

    networks: Sequence[NetworkCost]
    image_size: int
    batch_flops: float
    time_batch: Callable[[], float]
    sharded_memory: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    memory_not_counted: str = "frozen encoders"
    time_not_counted: str = "data loading, validation, previews, and communication"

    def without(self, part: str) -> "StageCost":
        """Return a copy that lists ``part`` among the items excluded from the memory and time estimates."""
        return replace(
            self,
            memory_not_counted=f"{self.memory_not_counted}, {part}",
            time_not_counted=f"{self.time_not_counted}, {part}",
        )


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters in a network."""
    return sum(parameter.numel() for parameter in network.parameters())


@cache
def parameters_by_width(spec: DiTSpec) -> dict[float, int]:
    """Return the parameter count of each width's standalone network, in ascending order of width."""
    with torch.device("meta"):
        network = ElasticDiT(spec)
        return {width: count_parameters(extract_subnetwork(network, width)) for width in sorted(spec.widths)}


def network_inputs(
    spec: DiTSpec, batch: int, sides: tuple[int, int], device: str, tokens: Sequence[int] = ()
) -> tuple[Tensor, Tensor, list[TextTokens]]:
    """Create all-zero inputs with the right shapes for a backbone.

    Args:
        spec: Specification of the backbone.
        batch: Batch size B.
        sides: Latent height and width.
        device: Device of the tensors.
        tokens: Number of tokens per text encoder. Defaults to CLIP's 77 for each.

    Returns:
        Latents (B, C, h, w), times (B,), and one ``TextTokens`` per text encoder.
    """
    text = [
        TextTokens(torch.zeros(batch, count, width, device=device), torch.ones(batch, count, device=device) > 0)
        for width, count in zip(spec.text_inputs, tokens or [CLIP_TOKENS] * len(spec.text_inputs), strict=True)
    ]
    return torch.zeros(batch, spec.latent_channels, *sides, device=device), torch.zeros(batch, device=device), text


def pass_cost(label: str, network: nn.Module, parameters: int, loss: Callable[[], Tensor]) -> NetworkCost:
    """Count the FLOPs and the saved activations of one forward and backward pass.

    Args:
        label: Name of the network in tables.
        network: The network, on the meta device. Its weights are not counted as saved activations.
        parameters: Parameter count to report.
        loss: Function that runs the forward pass and returns a scalar loss.
    """
    saved: dict[int, int] = {}
    weights = {id(parameter.untyped_storage()) for parameter in network.parameters()}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in weights:
            saved[id(storage)] = tensor.numel() * tensor.element_size()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            value = loss()
        forward = counter.get_total_flops()
        value.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    return NetworkCost(label, parameters, forward, counter.get_total_flops() - forward, sum(saved.values()))


def optimizer_bytes(optimizer: Component, network: nn.Module) -> int:
    """Return the size of the optimizer state in bytes. It is created by one optimizer step on the meta device."""
    built = build(optimizer, params=list(network.named_parameters()))
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter)
    built.step()
    return sum(
        value.numel() * value.element_size()
        for state in built.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


def fastest_seconds(step: Callable[[], None], repeats: int = TIMED_STEPS) -> float:
    """Return the duration of the fastest of ``repeats`` calls, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return best


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the rate of a square matrix product in FLOP/s, as the best of six repeats."""
    size = 4096 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)

    def multiply() -> None:
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()

    return 2 * size**3 / fastest_seconds(multiply, repeats=6)

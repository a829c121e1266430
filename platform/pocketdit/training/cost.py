"""Describes the passes of a training step, and counts or measures their FLOPs, memory and time."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward

from pocketdit.backbones.build import build_network
from pocketdit.backbones.spec import BackboneSpec
from pocketdit.config.component import Component
from pocketdit.encoders.contract import TextTokens
from pocketdit.training.kernels import KernelCounter, Kernels, LikeGpu, total_flops
from pocketdit.training.optimizer import build_optimizer

CLIP_TOKENS = 77
NOT_COUNTED = ("data loading", "validation", "previews")
"""Parts of a run that no cost estimate includes."""


@dataclass(frozen=True)
class Pass:
    """A pass of a batch through a network.

    Attributes:
        label: Name shown in tables, for example "0.5x" or "teacher".
        forward: Function that runs the forward pass, and returns the loss if the network is trained.
        network: The network. If it is sharded, FSDP2 gathers its weights for the pass.
        parameters: Number of parameters to display. For a pass at a narrower width, it is smaller than the network's.
        per_batch: How often the pass runs per batch, on average over many batches.
        trained: Whether a backward pass follows.
        held: Bytes of gradients from earlier passes that stay in memory during this pass.
        sharded: Whether FSDP2 shards the network.
        encoder: What the network encodes in every step, unless the data set already contains the results. None if the
            network is not an encoder.
    """

    label: str
    forward: Callable[[], object]
    network: nn.Module
    parameters: int
    per_batch: float = 1.0
    trained: bool = True
    held: int = 0
    sharded: bool = True
    encoder: Literal["images", "text", "teacher text"] | None = None


@dataclass(frozen=True)
class StageCost:
    """What a stage's training step computes, and what it keeps in memory.

    Attributes:
        image_size: Side length of the training images in pixels.
        batch: Number of samples per process in a batch.
        positions: Number of tokens or pixels per sample that the networks process.
        passes: Function that builds the passes of a batch on a device, with freshly initialized networks.
        update: Function that builds the weight update on a device.
        memory: Size in bytes of each part that FSDP2 shards across processes: the trained weights, their EMA, the
            optimizer state, and the teacher.
        gradients: Size of the gradients in bytes, just before the update. FSDP2 shards them.
        replicated: Size in bytes of each part that every process stores completely.
        not_counted: Parts of the run that the estimate does not include, for display.
    """

    image_size: int
    batch: int
    positions: int
    passes: Callable[[torch.device], Sequence[Pass]]
    update: Callable[[torch.device], Callable[[], None]]
    memory: Mapping[str, int]
    gradients: int
    replicated: Mapping[str, int] = field(default_factory=dict)
    not_counted: Sequence[str] = NOT_COUNTED

    def rough_flops(self) -> float:
        """Estimate the order of magnitude of a batch's FLOPs without counting operations.

        A forward pass needs 2 FLOPs per parameter and position. Forward and backward passes together need 6.
        """
        steps = self.passes(torch.device("meta"))
        passes = sum(step.per_batch * step.parameters * (3 if step.trained else 1) for step in steps)
        return 2 * self.batch * self.positions * passes


@dataclass(frozen=True)
class PassCount:
    """The cost of a pass, as counted while the pass ran.

    Attributes:
        forward: Kernels that the forward pass launches.
        backward: Kernels that the backward pass launches.
        saved: Bytes of the activations that the forward pass keeps for the backward pass.
        peak: Largest number of bytes that the pass allocates at any time.
        working_peak: ``peak`` without the gradients of the parameters.
    """

    forward: Kernels
    backward: Kernels
    saved: int
    peak: int
    working_peak: int

    @property
    def flops(self) -> int:
        """FLOPs of the forward and the backward pass together."""
        return total_flops(self.forward) + total_flops(self.backward)


def run_backward(loss: Tensor) -> None:
    """Run a backward pass inside the active dispatch modes.

    ``torch.autograd.backward`` would run with ``LikeGpu`` disabled, so gradient checkpointing would launch different
    kernels.
    """
    options = {"allow_unreachable": True, "accumulate_grad": True}
    _engine_run_backward((loss,), (torch.ones_like(loss),), False, False, (), **options)


def run_pass(step: Pass) -> None:
    """Run a pass and discard its gradients."""
    if step.trained:
        loss = step.forward()
        assert isinstance(loss, Tensor)
        run_backward(loss)
        step.network.zero_grad()
    else:
        with torch.no_grad():
            step.forward()


def count_pass(step: Pass) -> PassCount:
    """Run a pass once and count its cost. On the meta device, call this function inside ``LikeGpu``."""
    counter = KernelCounter()
    parameters = [parameter for parameter in step.network.parameters() if parameter.requires_grad]
    register = nn.Parameter.register_post_accumulate_grad_hook
    hooks: list[Any] = [register(parameter, counter.count_gradient) for parameter in parameters]  # type: ignore[no-untyped-call]  # not annotated in torch
    with counter, torch.set_grad_enabled(step.trained):
        loss = step.forward()
        forward, saved = counter.kernels, counter.live
        counter.kernels = Kernels()
        if step.trained:
            assert isinstance(loss, Tensor)
            run_backward(loss)
    for hook in hooks:
        hook.remove()
    step.network.zero_grad()
    return PassCount(forward, counter.kernels, saved if step.trained else 0, counter.peak, counter.working_peak)


def precision_context(device: torch.device, bf16: bool) -> LikeGpu | torch.autocast:
    """Return the context in which a training step runs on a device. The meta device represents a GPU."""
    return LikeGpu(bf16) if device.type == "meta" else torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters in a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def bytes_of(network: nn.Module) -> int:
    """Return the size of a network's parameters and buffers in bytes."""
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


@cache
def parameters_by_width(spec: BackboneSpec) -> dict[float, int]:
    """Return the parameter count of each width's standalone network, in ascending order of width."""
    with torch.device("meta"):
        return {width: count_parameters(build_network(spec.standalone(width))) for width in sorted(spec.widths)}


def network_inputs(
    spec: BackboneSpec, batch: int, sides: tuple[int, int], device: str, tokens: Sequence[int] = ()
) -> tuple[Tensor, Tensor, list[TextTokens]]:
    """Create all-zero inputs with the right shapes for a backbone.

    Args:
        spec: Specification of the backbone.
        batch: Batch size B.
        sides: Latent height and width.
        device: Device of the tensors.
        tokens: Number of tokens of each text encoder. Defaults to 77 for each encoder, as in CLIP.

    Returns:
        Latents (B, C, h, w), times (B,), and one ``TextTokens`` per text encoder.
    """
    text = [
        TextTokens(torch.zeros(batch, count, width, device=device), torch.ones(batch, count, device=device) > 0)
        for width, count in zip(spec.text_inputs, tokens or [CLIP_TOKENS] * len(spec.text_inputs), strict=True)
    ]
    return torch.zeros(batch, spec.latent_channels, *sides, device=device), torch.zeros(batch, device=device), text


def optimizer_bytes(optimizer: Component, parameters: Sequence[tuple[str, nn.Parameter]]) -> int:
    """Return the size in bytes of the optimizer state, which one optimizer step on the meta device creates."""
    built = build_optimizer(optimizer, list(parameters))
    for _, parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    built.step()
    built.zero_grad()
    return sum(
        value.numel() * value.element_size()
        for state in built.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


def fastest_seconds(step: Callable[[], object], repeats: int = 2) -> float:
    """Return the duration of the fastest of ``repeats`` calls in seconds, including work queued on a GPU."""
    best = float("inf")
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        step()
        synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()

"""``lightning run FILE --plan``: what a run will take, before it starts.

Parameters, FLOPs and memory are counted on the meta device, where tensors have shapes and no storage. Time is
measured: one step on this machine where a step is short, else the rate of a matrix product here and the share
of it that training usually reaches, and the text says which.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pocketdit.backbones.dit import ElasticDiT, extract
from pocketdit.backbones.spec import DiTSpec
from pocketdit.config.component import build
from pocketdit.config.experiment import Experiment
from pocketdit.encoders.contract import TextTokens
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.training.precision import resolve_precision

# Share of the matrix rate that a step of training reaches; used only where a step is too long to be measured.
USUAL_SHARE = 0.4
MEASURE_BELOW_FLOPS = 2e12


@dataclass(frozen=True)
class Cost:
    """One forward and backward pass. ``saved``: bytes that autograd holds for the backward pass."""

    forward: float
    backward: float
    saved: int


def network_inputs(
    spec: DiTSpec, batch: int, sides: tuple[int, int], device: str, tokens: Sequence[int] = ()
) -> tuple[Tensor, Tensor, list[TextTokens]]:
    """Inputs of the right shapes; ``tokens`` of every text encoder, CLIP's 77 where not told."""
    text = [
        TextTokens(torch.zeros(batch, count, width, device=device), torch.ones(batch, count, device=device) > 0)
        for width, count in zip(spec.text_inputs, tokens or [77] * len(spec.text_inputs), strict=True)
    ]
    return torch.zeros(batch, spec.latent_channels, *sides, device=device), torch.zeros(batch, device=device), text


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@cache
def parameters_by_width(spec: DiTSpec) -> dict[float, int]:
    """Parameters of the standalone network of every width, narrow to wide."""
    with torch.device("meta"):
        network = ElasticDiT(spec)
        return {width: count_parameters(extract(network, width)) for width in sorted(spec.widths)}


def cost(network: ElasticDiT, batch: int, sides: tuple[int, int], width: float, tokens: Sequence[int] = ()) -> Cost:
    """FLOPs and saved activations of one pass; ``sides`` are the latent's. The network is on the meta device."""
    saved: dict[int, int] = {}
    weights = {id(p.untyped_storage()) for p in network.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in weights:
            saved[id(storage)] = tensor.numel() * tensor.element_size()
        return tensor

    inputs = network_inputs(network.spec, batch, sides, "meta", tokens)
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = flow_matching_loss(network(*inputs, width=width), inputs[0])
        forward = counter.get_total_flops()
        loss.backward()
    return Cost(forward, counter.get_total_flops() - forward, sum(saved.values()))


def optimizer_bytes(experiment: Experiment, network: ElasticDiT) -> int:
    """Bytes of optimizer state, from one step of the real optimizer on the meta device."""
    optimizer = build(experiment.optimizer, params=list(network.named_parameters()))
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product on this device, the best of six."""
    size = 4096 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def measured_step_seconds(experiment: Experiment, batch: int, sides: tuple[int, int], tokens: Sequence[int]) -> float:
    """Seconds of one elastic step's two passes and the optimizer on this machine, the best of three."""
    network = ElasticDiT(experiment.backbone)
    optimizer = build(experiment.optimizer, params=list(network.named_parameters()))
    inputs = network_inputs(experiment.backbone, batch, sides, "cpu", tokens)
    widest_two = sorted(experiment.backbone.widths)[-2:]
    half = resolve_precision(experiment.training.precision, "cpu") == "bf16-mixed"
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for width in widest_two:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = flow_matching_loss(network(*inputs, width=width), inputs[0])
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        best = min(best, time.perf_counter() - began)
    return best


def plan(experiment: Experiment) -> str:
    """The text that ``--plan`` prints."""
    spec, training = experiment.backbone, experiment.training
    batch = int(experiment.data.init_args.get("batch_size", 1))
    base = int(experiment.data.init_args.get("base_size", experiment.sampling.size[0]))
    sides = (base // 8, base // 8)
    with torch.device("meta"):
        network = ElasticDiT(spec)
    network.use_gradient_checkpointing(training.gradient_checkpointing)
    parameters = parameters_by_width(spec)
    tokens = [int(part.init_args.get("max_tokens", 77)) for part in experiment.text_encoders]
    costs = {width: cost(network, batch, sides, width, tokens) for width in sorted(spec.widths)}
    state = optimizer_bytes(experiment, network)
    on_gpu = training.accelerator != "cpu" and torch.cuda.is_available()
    *subs, widest = costs.values()
    step_flops = widest.forward + widest.backward
    if subs:
        step_flops += sum(c.forward + c.backward for c in subs) / len(subs)
    step_flops *= training.accumulate

    wanted = training.devices if isinstance(training.devices, int) else max(1, torch.cuda.device_count())
    processes = wanted * training.nodes
    shards = processes if training.strategy == "fsdp2" else 1
    half = resolve_precision(training.precision, training.accelerator) == "bf16-mixed"
    weights = 4 * count_parameters(network) // shards
    memory = {
        "weights": weights,
        "averaged weights": weights,
        "gradients (full + sub-network)" if subs else "gradients": weights * (2 if subs else 1),
        "optimizer state": state // shards,
        "activations (one network at a time)": max(c.saved for c in costs.values()) // (2 if half else 1),
    }
    lines = [f"{experiment.experiment}: {training.max_steps} steps of {batch * training.accumulate} samples a process, "
             f"{base}x{base} pixels", "", "  width   parameters   FLOPs forward   activations"]  # fmt: skip
    for width, c in costs.items():
        lines.append(
            f"  {width:<5g}  {parameters[width] / 1e6:9.2f} M  {c.forward / batch / 1e9:9.2f} G/sample  "
            f"{c.saved / 2**20:8.0f} MiB"
        )
    shared = f", weights divided over {shards} processes" if shards > 1 else ""
    lines += ["", f"  memory a process{shared}"]
    lines += [f"    {name:<38}{size / 2**20:9.0f} MiB" for name, size in memory.items()]
    lines += [f"    {'sum, frozen encoders not counted':<38}{sum(memory.values()) / 2**20:9.0f} MiB", ""]

    if not on_gpu and step_flops < MEASURE_BELOW_FLOPS:
        seconds = measured_step_seconds(experiment, batch, sides, tokens) * training.accumulate
        basis = f"a step measured here, {torch.get_num_threads()} threads"
    else:
        device = torch.device("cuda" if on_gpu else "cpu")
        rate = matrix_rate(device, torch.bfloat16 if on_gpu else torch.float32)
        seconds = step_flops / (rate * USUAL_SHARE)
        basis = f"assumed {USUAL_SHARE:.0%} of this machine's matrix rate, {rate / 1e12:.2f} TFLOP/s"
    hours, minutes = divmod(round(training.max_steps * seconds / 60), 60)
    lines += [
        f"  FLOPs per step     {step_flops / 1e9:,.0f} G a process",
        f"  samples per second {batch * training.accumulate / seconds:,.1f} a process ({basis})",
        f"  training           {hours} h {minutes:02d} min for {training.max_steps} steps, "
        "data, validation, samples and communication not counted",
    ]
    if not experiment.stage.class_path.endswith("ElasticPretrain"):
        lines += [
            "",
            "  counted as elastic training of the whole backbone: a teacher's weights and passes are not in it,",
            "  and a stage that trains LoRA or biases needs less for gradients and optimizer, and runs other passes",
        ]
    return "\n".join(lines)

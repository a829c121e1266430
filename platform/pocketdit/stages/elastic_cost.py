"""Cost of elastic training, in which every step trains the full network and one sub-network."""

import torch

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.component import build
from pocketdit.config.declared import latent_sides, text_lengths
from pocketdit.config.experiment import Experiment
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.training.cost import (
    NetworkCost,
    StageCost,
    count_parameters,
    fastest_seconds,
    network_inputs,
    optimizer_bytes,
    parameters_by_width,
    pass_cost,
)
from pocketdit.training.precision import resolve_precision


def elastic_cost(experiment: Experiment) -> StageCost:
    """Estimate the FLOPs, memory, and time of an elastic training step."""
    spec, training = experiment.backbone, experiment.training
    batch = int(experiment.data.init_args.get("batch_size", 1))
    side = int(experiment.data.init_args.get("base_size", experiment.sampling.size[0]))
    sides = latent_sides(experiment.autoencoder, (side, side))
    tokens = text_lengths(experiment.text_encoders)
    with torch.device("meta"):
        network = ElasticDiT(spec)
    network.use_gradient_checkpointing(training.gradient_checkpointing)
    costs = [
        network_cost(network, batch, sides, width, tokens, parameters)
        for width, parameters in parameters_by_width(spec).items()
    ]
    state = optimizer_bytes(experiment.optimizer, network)
    *sub_networks, full = costs
    flops = full.forward + full.backward
    if sub_networks:
        flops += sum(cost.forward + cost.backward for cost in sub_networks) / len(sub_networks)
    bf16 = resolve_precision(training.precision, training.accelerator) == "bf16-mixed"
    weights = 4 * count_parameters(network)
    memory = {
        "weights": weights,
        "EMA weights": weights,
        "gradients (full + sub-network)" if sub_networks else "gradients": weights * (2 if sub_networks else 1),
        "optimizer state": state,
    }
    activations = {"activations (one network at a time)": max(cost.saved for cost in costs) // (2 if bf16 else 1)}
    return StageCost(
        networks=costs,
        image_size=side,
        batch_flops=flops,
        time_batch=lambda: batch_seconds(experiment, batch, sides, tokens),
        sharded_memory=memory,
        memory=activations,
    )


def network_cost(
    network: ElasticDiT,
    batch: int,
    sides: tuple[int, int],
    width: float,
    tokens: list[int],
    parameters: int,
) -> NetworkCost:
    """Count the cost of one training pass at one width.

    Args:
        network: The supernet, on the meta device.
        batch: Batch size.
        sides: Height and width of the latents.
        width: The width.
        tokens: Number of tokens per text encoder.
        parameters: Parameter count of the width's standalone network.
    """
    inputs = network_inputs(network.spec, batch, sides, "meta", tokens)
    return pass_cost(
        f"{width:g}x", network, parameters, lambda: flow_matching_loss(network(*inputs, width=width), inputs[0])
    )


def batch_seconds(experiment: Experiment, batch: int, sides: tuple[int, int], tokens: list[int]) -> float:
    """Measure how many seconds an elastic step takes on the CPU, including the optimizer update."""
    network = ElasticDiT(experiment.backbone)
    optimizer = build(experiment.optimizer, params=list(network.named_parameters()))
    inputs = network_inputs(experiment.backbone, batch, sides, "cpu", tokens)
    widest_two = sorted(experiment.backbone.widths)[-2:]
    bf16 = resolve_precision(experiment.training.precision, "cpu") == "bf16-mixed"

    def step() -> None:
        for width in widest_two:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = flow_matching_loss(network(*inputs, width=width), inputs[0])
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        optimizer.step()
        optimizer.zero_grad()

    return fastest_seconds(step)

"""Cost estimate for fine-tuning a quantized network."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.spec import FULL_WIDTH
from pocketdit.config.declared import text_lengths
from pocketdit.config.experiment import Experiment
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.quantization.palette import palettized_layers
from pocketdit.stages.cost_inputs import batch_size, image_side, image_tokens, latent_grid, stage_settings
from pocketdit.stages.elastic_cost import build_update
from pocketdit.stages.frozen_cost import encoder_passes, replicated_bytes
from pocketdit.training.cost import Pass, StageCost, bytes_of, count_parameters, network_inputs, optimizer_bytes


def quantization_cost(experiment: Experiment) -> StageCost:
    """Estimate the cost of a fine-tuning step. The one-time computation of the palettes is not included."""
    settings, meta = stage_settings(experiment), torch.device("meta")
    steps = settings["steps"]
    network = build_quantized(experiment, settings["weight_threshold"], meta)
    weights = bytes_of(network)
    trained = [(name, value) for name, value in network.named_parameters() if value.requires_grad]

    def passes(device: torch.device) -> list[Pass]:
        quantized = build_quantized(experiment, settings["weight_threshold"], device)
        lengths = text_lengths(experiment.text_encoders)
        inputs = network_inputs(quantized.spec, batch_size(experiment), latent_grid(experiment), str(device), lengths)
        width, parameters = f"{experiment.dit.widths[0]:g}x", count_parameters(quantized)
        forward = partial(quantized, *inputs)
        rolled_out = (steps - 1) / 2 if steps else 0.0
        return [
            Pass(f"{width}, quantized", lambda: flow_matching_loss(forward(), inputs[0]), quantized, parameters),
            Pass(f"{width}, no gradients", forward, quantized, parameters, rolled_out + 1, trained=False),
            *encoder_passes(experiment, device, images=not steps),
        ]

    def update(device: torch.device) -> Callable[[], None]:
        quantized = build_quantized(experiment, settings["weight_threshold"], device)
        return build_update(experiment.optimizer, quantized, sums_gradients=False)

    return StageCost(
        image_size=image_side(experiment),
        batch=batch_size(experiment),
        positions=image_tokens(experiment),
        passes=passes,
        update=update,
        memory={
            "weights": weights,
            "EMA weights": weights,
            "unquantized weights": weights,
            "optimizer state": optimizer_bytes(experiment.optimizer, trained),
        },
        gradients=sum(value.nbytes for _, value in trained),
        replicated=replicated_bytes(encoder_passes(experiment, meta, images=not steps)),
    )


def build_quantized(experiment: Experiment, threshold: int, device: torch.device) -> ElasticDiT:
    """Build the network of the quantized width and freeze its palettized weights."""
    spec = experiment.dit
    with device:
        network = ElasticDiT(replace(spec, width=spec.hidden_size(spec.widths[0]), widths=(FULL_WIDTH,)))
    network.use_gradient_checkpointing(experiment.training.gradient_checkpointing)
    for layer in palettized_layers(network, threshold).values():
        layer.get_parameter("weight").requires_grad_(False)
    return network

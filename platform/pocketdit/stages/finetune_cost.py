"""Cost estimate for fine-tuning, with or without a LoRA and a prior."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.declared import text_lengths
from pocketdit.config.experiment import Experiment
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.stages.cost_inputs import batch_size, image_side, image_tokens, latent_grid, stage_settings
from pocketdit.stages.elastic_cost import build_update
from pocketdit.stages.finetune_settings import Lora, Prior, add_lora
from pocketdit.stages.frozen_cost import encoder_passes, replicated_bytes
from pocketdit.training.cost import (
    NOT_COUNTED,
    Pass,
    StageCost,
    bytes_of,
    network_inputs,
    optimizer_bytes,
    parameters_by_width,
)


def finetune_cost(experiment: Experiment) -> StageCost:
    """Estimate the cost of a fine-tuning step. The one-time sampling of the prior's images is not included."""
    settings, meta = stage_settings(experiment), torch.device("meta")
    lora: Lora | None = settings["lora"]
    prior: Prior | None = settings["prior"]
    network = build_network(experiment, lora, meta)
    trained = [(name, value) for name, value in network.named_parameters() if value.requires_grad]
    trained_bytes = sum(value.nbytes for _, value in trained)
    widths = experiment.dit.widths
    copies = 1 if len(widths) == 1 else 2
    copy = {"original weights": bytes_of(network)} if prior is not None and lora is None else {}
    return StageCost(
        image_size=image_side(experiment),
        batch=batch_size(experiment),
        positions=image_tokens(experiment),
        passes=lambda device: [
            *finetune_passes(experiment, build_network(experiment, lora, device), prior is not None, device),
            *encoder_passes(experiment, device),
        ],
        update=lambda device: build_update(experiment.optimizer, build_network(experiment, lora, device), copies > 1),
        memory={
            "weights": bytes_of(network),
            "EMA weights": trained_bytes,
            **copy,
            "optimizer state": optimizer_bytes(experiment.optimizer, trained),
        },
        gradients=copies * trained_bytes,
        replicated=replicated_bytes(encoder_passes(experiment, meta)),
        not_counted=NOT_COUNTED if prior is None else (*NOT_COUNTED, "sampling the images of the prior"),
    )


def build_network(experiment: Experiment, lora: Lora | None, device: torch.device) -> ElasticDiT:
    """Build the network on a device, with the adapters of the LoRA if there is one."""
    with device:
        network = ElasticDiT(experiment.dit)
        network.use_gradient_checkpointing(experiment.training.gradient_checkpointing)
        if lora is not None:
            add_lora(network, lora)
    return network


def finetune_passes(experiment: Experiment, network: ElasticDiT, has_prior: bool, device: torch.device) -> list[Pass]:
    """Return the passes of each width. If there is a prior, they include its images and the prediction of its targets.

    Every batch runs the full network and, on average, each sub-network equally often.
    """
    spec, widest = experiment.dit, max(experiment.dit.widths)
    lengths = text_lengths(experiment.text_encoders)
    inputs = network_inputs(spec, batch_size(experiment), latent_grid(experiment), str(device), lengths)
    copy = sum(value.nbytes for value in network.parameters() if value.requires_grad)
    accumulates = experiment.training.accumulate > 1 and len(spec.widths) > 1

    def trained(width: float) -> Tensor:
        losses = [flow_matching_loss(network(*inputs, width=width), inputs[0]) for _ in range(1 + has_prior)]
        return sum(losses[1:], losses[0])

    passes = []
    for width, parameters in parameters_by_width(spec).items():
        step = Pass(
            label=f"{width:g}x",
            forward=partial(trained, width),
            network=network,
            parameters=parameters,
            per_batch=1.0 if width == widest else 1 / (len(spec.widths) - 1),
            held=copy if accumulates or width != widest else 0,  # the other network's gradient
        )
        passes.append(step)
        if has_prior:
            forward = partial(network, *inputs, width=width)
            passes.append(replace(step, label=f"{width:g}x, no gradients", forward=forward, trained=False))
    return passes

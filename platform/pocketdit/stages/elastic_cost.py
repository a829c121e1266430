"""Cost estimate for elastic training, in which every step trains the full network and one sub-network."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from pocketdit.backbones.build import build_network
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.elastic import WidthSpecific
from pocketdit.backbones.unet import UNet
from pocketdit.config.component import Component
from pocketdit.config.declared import text_lengths
from pocketdit.config.experiment import Experiment
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.stages.cost_inputs import batch_size, image_side, image_tokens, latent_grid
from pocketdit.stages.frozen_cost import encoder_passes, replicated_bytes
from pocketdit.stages.projectors import build_projector
from pocketdit.training import gradients
from pocketdit.training.cost import (
    Pass,
    StageCost,
    bytes_of,
    network_inputs,
    optimizer_bytes,
    parameters_by_width,
)
from pocketdit.training.ema import update_ema
from pocketdit.training.optimizer import build_optimizer


def elastic_cost(experiment: Experiment, feature_width: int | None = None) -> StageCost:
    """Estimate the cost of an elastic training step.

    Args:
        experiment: The configuration.
        feature_width: Size of the teacher's features that the projectors predict, or None if there are no projectors.
    """
    meta = torch.device("meta")
    trained = build_trained(experiment, meta, feature_width)
    weights = bytes_of(trained)
    copies = 1 if len(experiment.backbone.widths) == 1 else 2
    return StageCost(
        image_size=image_side(experiment),
        batch=batch_size(experiment),
        positions=image_tokens(experiment),
        passes=lambda device: [
            *elastic_passes(experiment, build_trained(experiment, device, feature_width), device),
            *encoder_passes(experiment, device),
        ],
        update=lambda device: build_update(
            experiment.optimizer, build_trained(experiment, device, feature_width), copies > 1
        ),
        memory={
            "weights": weights,
            "EMA weights": bytes_of(trained["backbone"]),
            "optimizer state": optimizer_bytes(experiment.optimizer, list(trained.named_parameters())),
        },
        gradients=copies * weights,
        replicated=replicated_bytes(encoder_passes(experiment, meta)),
    )


def build_trained(experiment: Experiment, device: torch.device, feature_width: int | None = None) -> nn.ModuleDict:
    """Build the trained networks on a device: the supernet and, if it learns a teacher's features, the projectors."""
    spec = experiment.backbone
    with device:
        backbone = build_network(spec)
        backbone.use_gradient_checkpointing(experiment.training.gradient_checkpointing)
        trained: dict[str, nn.Module] = {"backbone": backbone}
        if feature_width is not None:
            sizes = [spec.hidden_size(width) for width in spec.widths]
            trained["projectors"] = WidthSpecific({str(size): build_projector(size, feature_width) for size in sizes})
    return nn.ModuleDict(trained)


def elastic_passes(experiment: Experiment, trained: nn.ModuleDict, device: torch.device) -> list[Pass]:
    """Return one pass per width. Every batch runs the full network and, on average, each sub-network equally often."""
    spec, backbone, batch = experiment.backbone, trained["backbone"], batch_size(experiment)
    assert isinstance(backbone, ElasticDiT | UNet)
    inputs = network_inputs(spec, batch, latent_grid(experiment), str(device), text_lengths(experiment.text_encoders))
    copy = bytes_of(trained)
    accumulates = experiment.training.accumulate > 1 and len(spec.widths) > 1

    def forward(width: float) -> Tensor:
        if "projectors" not in trained:
            return flow_matching_loss(backbone(*inputs, width=width), inputs[0])
        projectors = trained["projectors"]
        assert isinstance(projectors, WidthSpecific)
        assert isinstance(backbone, ElasticDiT)
        prediction, features = backbone.forward_with_features(*inputs, width=width)
        loss = flow_matching_loss(prediction, inputs[0])
        projected: Tensor = projectors.for_hidden_size(features.shape[-1])(features)
        return loss + projected.square().mean()

    widest = max(spec.widths)
    return [
        Pass(
            label=f"{width:g}x",
            forward=partial(forward, width),
            network=trained,
            parameters=parameters,
            per_batch=1.0 if width == widest else 1 / (len(spec.widths) - 1),
            held=copy if accumulates or width != widest else 0,  # the other network's gradient
        )
        for width, parameters in parameters_by_width(spec).items()
    ]


def build_update(optimizer: Component, trained: nn.Module, sums_gradients: bool) -> Callable[[], None]:
    """Return a function that clips the gradients, takes an optimizer step, and updates the EMA weights.

    Args:
        optimizer: Configuration of the optimizer.
        trained: The trained networks.
        sums_gradients: Whether the gradients of the full network and of a sub-network are balanced and added first.
    """
    named = [(name, parameter) for name, parameter in trained.named_parameters() if parameter.requires_grad]
    parameters = [parameter for _, parameter in named]
    built, ema = build_optimizer(optimizer, named), [parameter.detach().clone() for parameter in parameters]
    full: gradients.Gradients = [torch.randn_like(parameter) for parameter in parameters]
    sub = [torch.randn_like(parameter) for parameter in parameters]

    def update() -> None:
        for parameter, gradient in zip(parameters, sub, strict=True):
            parameter.grad = gradient
        if sums_gradients:
            gradients.balance(parameters, full)
            gradients.add(parameters, full)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        built.step()
        built.zero_grad()
        update_ema(ema, parameters, 0.999)

    return update

"""Cost estimate for training an autoencoder."""

import torch
from torch import Tensor
from torch.nn import functional

from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.config.experiment import AutoencoderExperiment
from pocketdit.stages.cost_inputs import batch_size, image_side, stage_settings
from pocketdit.stages.elastic_cost import build_update
from pocketdit.training.cost import Pass, StageCost, bytes_of, count_parameters, optimizer_bytes


def autoencoder_cost(experiment: AutoencoderExperiment) -> StageCost:
    """Estimate the cost of a training step."""
    side = min(image_side(experiment), int(stage_settings(experiment)["crop"]) or image_side(experiment))
    trained = build_autoencoder(experiment, torch.device("meta"))
    return StageCost(
        image_size=side,
        batch=batch_size(experiment),
        positions=side**2,
        passes=lambda device: [autoencoder_pass(experiment, side, device)],
        update=lambda device: build_update(
            experiment.optimizer, build_autoencoder(experiment, device), sums_gradients=False
        ),
        memory={
            "weights": bytes_of(trained),
            "EMA weights": bytes_of(trained),
            "optimizer state": optimizer_bytes(experiment.optimizer, list(trained.named_parameters())),
        },
        gradients=bytes_of(trained),
        replicated={},
    )


def build_autoencoder(experiment: AutoencoderExperiment, device: torch.device) -> ConvAutoencoder:
    """Build the autoencoder on a device."""
    with device:
        return ConvAutoencoder(experiment.architecture)


def autoencoder_pass(experiment: AutoencoderExperiment, side: int, device: torch.device) -> Pass:
    """Return the pass through the encoder, the decoder, and the loss."""
    network = build_autoencoder(experiment, device)
    images = torch.zeros(batch_size(experiment), 3, side, side, device=device)

    def loss() -> Tensor:
        return functional.mse_loss(network.decode(network.encode(images)), images)

    return Pass(f"autoencoder, {side}x{side}", loss, network, count_parameters(network))

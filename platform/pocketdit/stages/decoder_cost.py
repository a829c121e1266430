"""Cost estimate for training a tiny decoder."""

from functools import partial

import torch
from torch import Tensor, nn

from pocketdit.config.component import Component
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.decoders.discriminator import PatchDiscriminator
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.losses.adversarial import decoder_adversarial_loss, discriminator_loss
from pocketdit.losses.reconstruction import charbonnier_loss
from pocketdit.stages.cost_inputs import batch_size, image_side, stage_settings
from pocketdit.stages.elastic_cost import build_update
from pocketdit.stages.frozen_cost import encoder_passes, outline, replicated_bytes
from pocketdit.training.cost import NOT_COUNTED, Pass, StageCost, bytes_of, count_parameters, optimizer_bytes


def decoder_cost(experiment: DecoderExperiment) -> StageCost:
    """Estimate the cost of a training step."""
    settings, meta = stage_settings(experiment), torch.device("meta")
    trained = build_trained(experiment, meta)
    perceptual: Component | None = settings["perceptual"]
    is_unknown = perceptual is not None and outline(perceptual, meta) is None
    return StageCost(
        image_size=crop_side(experiment),
        batch=batch_size(experiment),
        positions=crop_side(experiment) ** 2,
        passes=lambda device: [*decoder_passes(experiment, device), *encoder_passes(experiment, device)],
        update=lambda device: build_update(
            experiment.optimizer, build_trained(experiment, device), sums_gradients=False
        ),
        memory={
            "weights": bytes_of(trained),
            "EMA weights": bytes_of(trained["decoder"]),
            "optimizer state": optimizer_bytes(experiment.optimizer, list(trained.named_parameters())),
        },
        gradients=bytes_of(trained),
        replicated=replicated_bytes(encoder_passes(experiment, meta)),
        not_counted=(*NOT_COUNTED, "the perceptual distance") if is_unknown else NOT_COUNTED,
    )


def crop_side(experiment: DecoderExperiment) -> int:
    """Return the side length of the training window in pixels."""
    side = image_side(experiment)
    return min(side, int(stage_settings(experiment)["crop"]) or side)


def build_trained(experiment: DecoderExperiment, device: torch.device) -> nn.ModuleDict:
    """Build the decoder and, if there is an adversarial loss, the discriminator."""
    settings = stage_settings(experiment)
    with device:
        trained: dict[str, nn.Module] = {"decoder": TinyDecoder(experiment.decoder)}
        if settings["adversarial_weight"]:
            trained["discriminator"] = PatchDiscriminator(settings["discriminator_width"])
    return nn.ModuleDict(trained)


def decoder_passes(experiment: DecoderExperiment, device: torch.device) -> list[Pass]:
    """Return the passes through the decoder and its losses, and through the discriminator."""
    settings, batch, side = stage_settings(experiment), batch_size(experiment), crop_side(experiment)
    spec, trained = experiment.decoder, build_trained(experiment, device)
    component: Component | None = settings["perceptual"]
    perceptual = None if component is None else outline(component, device)
    latents = torch.zeros(batch, spec.latent_channels, side // spec.factor, side // spec.factor, device=device)
    target = torch.zeros(batch, 3, side, side, device=device)
    adversarial_steps = experiment.training.max_steps - settings["adversarial_from"]
    share = max(0, adversarial_steps) / experiment.training.max_steps if "discriminator" in trained else 0.0

    def decoder_loss(adversarial: bool) -> Tensor:
        images = trained["decoder"](latents).float()
        loss = charbonnier_loss(images, target)
        if perceptual is not None:
            distance = perceptual.run(images, target)
            assert isinstance(distance, Tensor)
            loss = loss + distance.mean()
        return loss + decoder_adversarial_loss(trained["discriminator"](images)) if adversarial else loss

    def score_loss() -> Tensor:
        return discriminator_loss(trained["discriminator"](target), trained["discriminator"](target))

    decoder, label = trained["decoder"], f"decoder, {side}x{side}"
    plain = Pass(label, partial(decoder_loss, False), decoder, count_parameters(decoder), 1 - share)
    if not share:
        return [plain]
    discriminator = trained["discriminator"]
    parameters = count_parameters(discriminator)
    passes = [
        plain,
        Pass(f"{label}, adversarial", partial(decoder_loss, True), decoder, count_parameters(decoder), share),
        Pass("discriminator", score_loss, discriminator, parameters, share),
    ]
    return [item for item in passes if item.per_batch]

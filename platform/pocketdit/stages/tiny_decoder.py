"""Trains a tiny decoder for the latents of a frozen autoencoder (paper Sec. 4.1)."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from pocketdit.bounds import Count, CountOrZero, Weight
from pocketdit.config.component import build
from pocketdit.config.experiment import BaseExperiment, DecoderExperiment
from pocketdit.data_contract import DataDescription
from pocketdit.decoders.contract import PerceptualDistance
from pocketdit.decoders.discriminator import PatchDiscriminator
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.errors import ConfigError
from pocketdit.images import from_uint8
from pocketdit.losses.adversarial import decoder_adversarial_loss, discriminator_loss
from pocketdit.losses.reconstruction import charbonnier_loss, psnr
from pocketdit.seeding import generator
from pocketdit.stages.contract import Preview, Stage, StageInputs
from pocketdit.stages.decoder_cost import decoder_cost
from pocketdit.stages.reconstruction import check_convolutional, first_validation_samples, random_window
from pocketdit.training.cost import StageCost
from pocketdit.training.ema import ema_copy, ema_decay, update_ema
from pocketdit.training.muon import is_muon
from pocketdit.training.nonfinite import stop_unless_finite
from pocketdit.training.step_samples import StepSamples
from pocketdit.training.update import batch_number, draw_position, prepare_optimizer, update_weights


class TrainTinyDecoder(LightningModule, Stage):
    """Stage that trains a tiny decoder to reconstruct images.

    The loss is L = Charbonnier + ``perceptual_weight`` perceptual + ``adversarial_weight`` adversarial (hinge). If
    ``adversarial_weight`` is above 0, a patch discriminator is trained along with the decoder. Every step first
    computes the decoder's gradient against the current discriminator, then computes the discriminator's gradient on the
    same images, and then updates both networks.

    Args:
        inputs: The network, encoders, and settings of the run.
        target: Target of the decoder. "image" is the original image. "decoded" is the autoencoder's own reconstruction
            from the same latents, which is the only option for a data set of latents.
        crop: Maximum side length in pixels of the window to train on. One random window per batch is cut from the
            latents and the images. With 0, complete images are used.
        perceptual: The perceptual distance. It must be set if ``perceptual_weight`` is above 0.
        perceptual_weight: Weight of the perceptual distance.
        adversarial_weight: Weight of the adversarial loss.
        adversarial_from: The step at which the adversarial loss begins.
        discriminator_width: Number of channels of the discriminator's first layer.
        discriminator_rate: The discriminator's learning rate as a multiple of the decoder's.
    """

    def __init__(
        self,
        inputs: StageInputs[TinyDecoder],
        target: Literal["image", "decoded"] = "image",
        crop: CountOrZero = 0,
        perceptual: PerceptualDistance | None = None,
        perceptual_weight: Weight = 0.0,
        adversarial_weight: Weight = 0.0,
        adversarial_from: CountOrZero = 0,
        discriminator_width: Count = 32,
        discriminator_rate: float = 1.0,
    ) -> None:
        super().__init__()
        decoder = inputs.network
        self.automatic_optimization = False
        self.decoder = decoder
        self.ema = ema_copy(decoder)
        self.discriminator = PatchDiscriminator(discriminator_width) if adversarial_weight else None
        self.encoders = inputs.encoders
        self.optimizer = inputs.optimizer
        self.training_spec = inputs.training
        self.step_samples = StepSamples(inputs.training.accumulate)
        self.seed = inputs.seed
        self.target = target
        self.crop = crop // decoder.spec.factor
        self.perceptual = perceptual
        self.perceptual_weight = perceptual_weight
        self.adversarial_weight = adversarial_weight
        self.adversarial_from = adversarial_from
        self.discriminator_rate = discriminator_rate

    @classmethod
    @override
    def check(cls, experiment: BaseExperiment) -> None:
        assert isinstance(experiment, DecoderExperiment)
        settings = experiment.stage.init_args
        check_convolutional(experiment, "a tiny decoder", experiment.decoder.factor)
        if is_muon(experiment.optimizer):
            raise ValueError("optimizer: a tiny decoder does not support Muon; use torch.optim.AdamW")
        if (settings.get("perceptual") is None) != (settings.get("perceptual_weight", 0) == 0):
            raise ValueError(
                "stage.init_args: perceptual and perceptual_weight must be set together; set both or neither"
            )

    @classmethod
    @override
    def check_data(cls, experiment: BaseExperiment, data: DataDescription) -> None:
        if not data.has_images and experiment.stage.init_args.get("target") == "image":
            raise ConfigError("stage.init_args.target: the data set contains latents but no images; set it to decoded")

    @classmethod
    @override
    def logged_metrics(cls, experiment: BaseExperiment) -> Sequence[str]:
        names = ["psnr/to_autoencoder", "psnr/tiny_decoder", "psnr/autoencoder"]
        if experiment.stage.init_args.get("perceptual"):
            names += ["*/tiny_decoder", "*/autoencoder"]
        return [f"validation/{name}" for name in names]

    @classmethod
    @override
    def cost(cls, experiment: BaseExperiment) -> StageCost:
        assert isinstance(experiment, DecoderExperiment)
        return decoder_cost(experiment)

    def setup(self, stage: str) -> None:
        """Move the perceptual network to the module's device."""
        if self.perceptual is not None:
            self.perceptual.to(self.device)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained parameters of each network. The gradient of each network is clipped separately."""
        groups = {"gradient_norm/decoder": list(self.decoder.parameters())}
        if self.discriminator is not None:
            groups["gradient_norm/discriminator"] = list(self.discriminator.parameters())
        return groups

    def configure_optimizers(self) -> Optimizer:
        """Build one optimizer with a parameter group per network. A group without gradients is not updated."""
        groups = [{"params": parameters} for parameters in self.parameter_groups().values()]
        optimizer = build(self.optimizer, params=groups)
        for group in optimizer.param_groups[1:]:
            group["lr"] *= self.discriminator_rate
        return prepare_optimizer(optimizer)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Train the decoder and, once the adversarial loss has begun, the discriminator."""
        number = batch_number(self, batch_idx)
        share = self.step_samples.share(len(batch["captions"]))
        latents, target = self.latents_and_target(batch, number)
        images = self.decoder(latents).float()
        adversarial = self.discriminator is not None and self.global_step >= self.adversarial_from
        losses = self.decoder_gradients(images, target, adversarial, share)
        if adversarial:
            losses["loss/discriminator"] = self.discriminator_gradients(images.detach(), target, share)
        stop_unless_finite(losses, batch, self)
        if (number + 1) % self.training_spec.accumulate == 0:
            step = self.global_step
            groups = self.parameter_groups()
            self.step_samples.normalize(chain(*groups.values()))
            losses |= update_weights(self, groups, self.training_spec, batch)
            decay = ema_decay(step, self.training_spec.ema_decay)
            update_ema(list(self.ema.parameters()), list(self.decoder.parameters()), decay)
        return losses

    @torch.no_grad()
    def latents_and_target(self, batch: Mapping[str, Any], number: int) -> tuple[Tensor, Tensor]:
        """Return latents (B, C, h, w) and their target images (B, 3, H, W), both cropped to the same window."""
        latents = self.encoders.latents(batch)
        factor = self.encoders.autoencoder.factor
        draws = generator("crop", *draw_position(self, self.seed, number))
        window = random_window(latents.shape[-2:], self.crop, draws)
        latents = window.cut(latents)
        if self.target == "decoded":
            return latents, self.encoders.autoencoder.decode(latents)
        return latents, from_uint8(window.scaled(factor).cut(batch["images"]))

    def decoder_gradients(
        self, images: Tensor, target: Tensor, adversarial: bool, share: float = 1.0
    ) -> dict[str, Tensor]:
        """Add the gradient of the decoder's losses to the decoder's gradient, and return the values to log."""
        losses = {"loss/charbonnier": charbonnier_loss(images, target)}
        total = losses["loss/charbonnier"]
        if self.perceptual is not None:
            losses[f"loss/{self.perceptual.name}"] = distance = self.perceptual.distance(images, target).mean()
            total = total + self.perceptual_weight * distance
        if adversarial:
            assert self.discriminator is not None
            self.discriminator.requires_grad_(False)
            losses["loss/adversarial"] = realism = decoder_adversarial_loss(self.discriminator(images))
            total = total + self.adversarial_weight * realism
        self.manual_backward(total * share)
        return {name: value.detach() for name, value in losses.items()}

    def discriminator_gradients(self, images: Tensor, target: Tensor, share: float = 1.0) -> Tensor:
        """Add the gradient of the discriminator's loss to the discriminator's gradient, and return the loss."""
        assert self.discriminator is not None
        self.discriminator.requires_grad_(True)
        loss = discriminator_loss(self.discriminator(target), self.discriminator(images))
        self.manual_backward(loss * share)
        return loss.detach()

    def weights(self) -> dict[str, Tensor]:
        """Return the EMA weights of the decoder."""
        return dict(self.ema.state_dict())

    @torch.no_grad()
    def reconstructions(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the original images, if the batch contains any, and the reconstructions of both decoders.

        The tiny decoder uses its EMA weights.
        """
        latents = self.encoders.latents(batch)
        original = {"original": from_uint8(batch["images"])} if "images" in batch else {}
        return original | {
            "autoencoder": self.encoders.autoencoder.decode(latents),
            "tiny decoder": self.ema.decode(latents),
        }

    def preview(self, final: bool) -> Preview | None:
        """Return reconstructions of the first validation images, or None if the validation set is empty."""
        captions, first = first_validation_samples(self)
        return Preview(self.reconstructions(first), captions) if captions else None

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Log both decoders' PSNR (dB) and perceptual distance to the originals, and the PSNR between the decoders."""
        images = self.reconstructions(batch)
        values = {"psnr/to_autoencoder": psnr(images["tiny decoder"], images["autoencoder"])}
        if "original" in images:
            for name in ("tiny decoder", "autoencoder"):
                key = name.replace(" ", "_")
                values[f"psnr/{key}"] = psnr(images[name], images["original"])
                if self.perceptual is not None:
                    distance = self.perceptual.distance(images[name], images["original"])
                    values[f"{self.perceptual.name}/{key}"] = distance
        for name, per_sample in values.items():
            self.log(f"validation/{name}", per_sample.mean(), batch_size=len(per_sample), sync_dist=True)

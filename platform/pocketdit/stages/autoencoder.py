"""Trains a small autoencoder, so that a backbone can then be trained on its latents."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer
from typing_extensions import override

from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.bounds import Between, CountOrZero, Weight
from pocketdit.config.component import build
from pocketdit.config.experiment import AutoencoderExperiment, BaseExperiment
from pocketdit.config.importing import import_class
from pocketdit.data_contract import DataDescription
from pocketdit.errors import ConfigError
from pocketdit.images import from_uint8
from pocketdit.losses.reconstruction import psnr
from pocketdit.seeding import generator
from pocketdit.stages.autoencoder_cost import autoencoder_cost
from pocketdit.stages.contract import Preview, Stage, StageInputs
from pocketdit.stages.reconstruction import check_convolutional, first_validation_samples, random_window
from pocketdit.training.cost import StageCost
from pocketdit.training.ema import ema_copy, ema_decay, update_ema
from pocketdit.training.muon import MuonAdamW
from pocketdit.training.nonfinite import stop_unless_finite
from pocketdit.training.step_samples import StepSamples
from pocketdit.training.update import batch_number, draw_position, prepare_optimizer, update_weights

STATISTICS_MOMENTUM = 0.02


class TrainAutoencoder(LightningModule, Stage):
    """Stage that trains an autoencoder to reconstruct images from slightly noisy latents.

    The loss is L = MSE + ``absolute_weight`` L1 + ``magnitude_weight`` mean(z^2), where z are the latents before
    normalization. The decoder gets the latents with Gaussian noise, so it tolerates the errors of a backbone that
    generates latents, and nearby latents decode to similar images.

    Args:
        inputs: The network, encoders, and settings of the run.
        crop: Maximum side length in pixels of the window to train on. One random window per batch is cut from the
            images. With 0, complete images are used.
        noise: Standard deviation of the noise, as a fraction of the standard deviation of each latent channel.
        absolute_weight: Weight of the mean absolute error.
        magnitude_weight: Weight of the squared magnitude of the encoder's output.
    """

    def __init__(
        self,
        inputs: StageInputs[ConvAutoencoder],
        crop: CountOrZero = 0,
        noise: Annotated[float, Between(0, 10)] = 0.05,
        absolute_weight: Weight = 0.05,
        magnitude_weight: Weight = 1e-4,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.autoencoder = inputs.network
        self.ema = ema_copy(inputs.network)
        self.optimizer = inputs.optimizer
        self.training_spec = inputs.training
        self.step_samples = StepSamples(inputs.training.accumulate)
        self.seed = inputs.seed
        self.crop = crop
        self.noise = noise
        self.absolute_weight = absolute_weight
        self.magnitude_weight = magnitude_weight

    @classmethod
    @override
    def check(cls, experiment: BaseExperiment) -> None:
        assert isinstance(experiment, AutoencoderExperiment)
        check_convolutional(experiment, "an autoencoder", experiment.architecture.factor)
        if import_class(experiment.optimizer.class_path) is MuonAdamW:
            raise ValueError("optimizer: MuonAdamW is for transformers; use ConvolutionMuonAdamW from the same module")

    @classmethod
    @override
    def check_data(cls, experiment: BaseExperiment, data: DataDescription) -> None:
        if not data.has_images:
            raise ConfigError(
                "data.init_args.path: the data set contains latents but no images; use a data set with images"
            )

    @classmethod
    @override
    def logged_metrics(cls, experiment: BaseExperiment) -> Sequence[str]:
        return ("validation/psnr", "validation/psnr_noisy")

    @classmethod
    @override
    def cost(cls, experiment: BaseExperiment) -> StageCost:
        assert isinstance(experiment, AutoencoderExperiment)
        return autoencoder_cost(experiment)

    def configure_optimizers(self) -> Optimizer:
        """Build the optimizer."""
        optimizer: Optimizer = build(self.optimizer, params=list(self.autoencoder.named_parameters()))
        return prepare_optimizer(optimizer)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Train the encoder and the decoder."""
        number = batch_number(self, batch_idx)
        losses = self.gradients(batch, number, self.step_samples.share(len(batch["captions"])))
        stop_unless_finite(losses, batch, self)
        if (number + 1) % self.training_spec.accumulate == 0:
            step = self.global_step
            parameters = list(self.autoencoder.parameters())
            self.step_samples.normalize(parameters)
            losses |= update_weights(self, {"gradient_norm": parameters}, self.training_spec, batch)
            decay = ema_decay(step, self.training_spec.ema_decay)
            update_ema(list(self.ema.parameters()), parameters, decay)
            update_ema(list(self.ema.buffers()), list(self.autoencoder.buffers()), decay)
        return losses

    def gradients(self, batch: Mapping[str, Any], number: int, share: float) -> dict[str, Tensor]:
        """Add a batch's gradient to the accumulated gradient, and return the losses to log.

        Args:
            batch: A batch with uint8 "images" (B, 3, H, W).
            number: Index of the batch, counted from the beginning of training.
            share: Factor by which the batch's gradient is multiplied.
        """
        images = batch["images"]
        draws = generator("crop", *draw_position(self, self.seed, number))
        target = from_uint8(random_window(images.shape[-2:], self.crop, draws).cut(images))
        target = target.contiguous(memory_format=torch.channels_last)
        raw = self.autoencoder.encoder(target).float()
        self.autoencoder.update_statistics(raw.detach(), STATISTICS_MOMENTUM)
        reconstructed = self.autoencoder.decoder(self.with_noise(raw, number)).float()
        losses = {
            "loss/squared": functional.mse_loss(reconstructed, target),
            "loss/absolute": functional.l1_loss(reconstructed, target),
            "loss/magnitude": raw.square().mean(),
        }
        total = losses["loss/squared"] + self.absolute_weight * losses["loss/absolute"]
        self.manual_backward((total + self.magnitude_weight * losses["loss/magnitude"]) * share)
        return {name: value.detach() for name, value in losses.items()}

    def with_noise(self, latents: Tensor, number: int) -> Tensor:
        """Add noise to latents (B, C, h, w), in proportion to the standard deviation of each channel in this batch."""
        std = latents.detach().std(dim=(0, 2, 3), keepdim=True)
        draws = generator("noise", *draw_position(self, self.seed, number))
        noise = torch.randn(latents.shape, generator=draws).to(latents.device)
        return latents + self.noise * std * noise

    def weights(self) -> dict[str, Tensor]:
        """Return the EMA weights, including the statistics of the latents."""
        return dict(self.ema.state_dict())

    def preview(self, final: bool) -> Preview | None:
        """Return reconstructions of the first validation images, or None if the validation set is empty."""
        captions, first = first_validation_samples(self)
        if not captions:
            return None
        images = from_uint8(first["images"])
        with torch.no_grad():
            decoded = self.ema.decode(self.ema.encode(images)).clamp(-1, 1)
        return Preview({"original": images, "autoencoder": decoded}, captions)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Log the PSNR (dB) of reconstructions from the original latents and from latents with noise."""
        images = from_uint8(batch["images"])
        latents = self.ema.encode(images)
        for name, decoded in {"psnr": latents, "psnr_noisy": self.with_noise(latents, batch_idx)}.items():
            values = psnr(self.ema.decode(decoded).clamp(-1, 1), images)
            self.log(f"validation/{name}", values.mean(), batch_size=len(values), sync_dist=True)

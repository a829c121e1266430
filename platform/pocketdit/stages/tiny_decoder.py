"""Training of a tiny decoder (paper Sec. 4.1): images back from a frozen autoencoder's latents."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from pocketdit.config.component import Component, build
from pocketdit.config.experiment import Training
from pocketdit.decoders.contract import PerceptualDistance
from pocketdit.decoders.discriminator import PatchDiscriminator
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.inputs import Encoders
from pocketdit.losses.adversarial import decoder_adversarial_loss, discriminator_loss
from pocketdit.losses.reconstruction import charbonnier_loss, psnr
from pocketdit.seeding import generator
from pocketdit.training.ema import averaged_copy, decay_at, follow
from pocketdit.training.nonfinite import stop_unless_finite
from pocketdit.training.update import ready, update


class TrainTinyDecoder(LightningModule):
    """L = Charbonnier + ``perceptual_weight`` perceptual + ``adversarial_weight`` adversarial (hinge).

    ``target``: the "image" itself, or the picture that the autoencoder's own decoder makes of the same latents
    ("decoded": the only one for shards of latents). ``crop``: train on one random window a batch of at most so many
    pixels a side, cut from latents and images alike; 0 takes whole pictures. ``perceptual``: a ``PerceptualDistance``.
    ``adversarial_weight`` above 0 trains a patch discriminator of ``discriminator_width`` channels beside the decoder
    from step ``adversarial_from`` on, at ``discriminator_rate`` times its learning rate: in every step the decoder's
    gradient is taken against the discriminator as it is, then the discriminator's on the same pictures, then both move.
    """

    def __init__(
        self,
        decoder: TinyDecoder,
        encoders: Encoders,
        optimizer: Component,
        training: Training,
        seed: int,
        target: Literal["image", "decoded"] = "image",
        crop: int = 0,
        perceptual: PerceptualDistance | None = None,
        perceptual_weight: float = 0.0,
        adversarial_weight: float = 0.0,
        adversarial_from: int = 0,
        discriminator_width: int = 32,
        discriminator_rate: float = 1.0,
    ) -> None:
        super().__init__()
        if crop < 0 or crop % decoder.spec.factor:
            raise ValueError(f"crop must be 0 or a multiple of {decoder.spec.factor} pixels")
        if perceptual_weight < 0 or adversarial_weight < 0:
            raise ValueError("perceptual_weight and adversarial_weight must not be negative")
        if (perceptual is None) != (perceptual_weight == 0):
            raise ValueError("perceptual and perceptual_weight go together: give both or neither")
        self.automatic_optimization = False
        self.decoder = decoder
        self.average = averaged_copy(decoder)
        self.discriminator = PatchDiscriminator(discriminator_width) if adversarial_weight else None
        self.encoders = encoders
        self.optimizer = optimizer
        self.training_spec = training
        self.seed = seed
        self.target = target
        self.crop = crop // decoder.spec.factor
        self.perceptual = perceptual
        self.perceptual_weight = perceptual_weight
        self.adversarial_weight = adversarial_weight
        self.adversarial_from = adversarial_from
        self.discriminator_rate = discriminator_rate

    def setup(self, stage: str) -> None:
        self.encoders.to(self.device)
        if self.perceptual is not None:
            self.perceptual.to(self.device)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that move, by network; each network's gradient is clipped by itself."""
        groups = {"gradient_norm/decoder": list(self.decoder.parameters())}
        if self.discriminator is not None:
            groups["gradient_norm/discriminator"] = list(self.discriminator.parameters())
        return groups

    def configure_optimizers(self) -> Optimizer:
        """One optimizer with a group a network: a group without gradients stays as it is."""
        optimizer = build(self.optimizer, params=[{"params": parameters} for parameters in self.groups().values()])
        for group in optimizer.param_groups[1:]:
            group["lr"] *= self.discriminator_rate
        return ready(optimizer)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        latents, target = self.pair(batch, batch_idx)
        images = self.decoder(latents).float()
        adversarial = self.discriminator is not None and self.global_step >= self.adversarial_from
        losses = self.decoder_gradients(images, target, adversarial)
        if adversarial:
            losses["loss/discriminator"] = self.discriminator_gradients(images.detach(), target)
        stop_unless_finite(losses, batch, self)
        if (batch_idx + 1) % self.training_spec.accumulate == 0:
            step = self.global_step
            losses |= update(self, self.groups(), self.training_spec, batch)
            decay = decay_at(step, self.training_spec.ema_decay)
            follow(list(self.average.parameters()), list(self.decoder.parameters()), decay)
        return losses

    @torch.no_grad()
    def pair(self, batch: Mapping[str, Any], batch_idx: int) -> tuple[Tensor, Tensor]:
        """Latents and the pictures to make of them, of the same window."""
        latents = self.encoders.latents(batch)
        factor = self.encoders.autoencoder.factor
        sides = [min(self.crop or side, side) for side in latents.shape[-2:]]
        draws = generator("crop", self.seed, batch_idx, self.global_rank)
        top, left = (
            int(torch.randint(whole - side + 1, (1,), generator=draws))
            for whole, side in zip(latents.shape[-2:], sides, strict=True)
        )
        latents = latents[..., top : top + sides[0], left : left + sides[1]]
        if self.target == "decoded":
            return latents, self.encoders.autoencoder.decode(latents)
        top, left, height, width = (factor * number for number in (top, left, *sides))
        return latents, batch["images"][..., top : top + height, left : left + width].float() / 127.5 - 1

    def decoder_gradients(self, images: Tensor, target: Tensor, adversarial: bool) -> dict[str, Tensor]:
        """The decoder's losses, their gradient added to its own. Returns what to log."""
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
        self.manual_backward(total / self.training_spec.accumulate)
        return {name: value.detach() for name, value in losses.items()}

    def discriminator_gradients(self, images: Tensor, target: Tensor) -> Tensor:
        """The discriminator's loss, its gradient added to its own."""
        assert self.discriminator is not None
        self.discriminator.requires_grad_(True)
        loss = discriminator_loss(self.discriminator(target), self.discriminator(images))
        self.manual_backward(loss / self.training_spec.accumulate)
        return loss.detach()

    def weights(self) -> dict[str, Tensor]:
        """What ``weights.safetensors`` holds: the averaged decoder."""
        return dict(self.average.state_dict())

    @torch.no_grad()
    def reconstructions(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """A batch's pictures as they are (where it holds them), from the autoencoder, and from the averaged decoder."""
        latents = self.encoders.latents(batch)
        original = {"original": batch["images"].float() / 127.5 - 1} if "images" in batch else {}
        return original | {
            "autoencoder": self.encoders.autoencoder.decode(latents),
            "tiny decoder": self.average.decode(latents),
        }

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """PSNR in dB, and the perceptual distance where there is one, to the original: of the autoencoder's own decoder
        and of the tiny one; and the PSNR between the two."""
        found = self.reconstructions(batch)
        figures = {"psnr/to_autoencoder": psnr(found["tiny decoder"], found["autoencoder"])}
        if "original" in found:
            for name in ("tiny decoder", "autoencoder"):
                key = name.replace(" ", "_")
                figures[f"psnr/{key}"] = psnr(found[name], found["original"])
                if self.perceptual is not None:
                    figures[f"{self.perceptual.name}/{key}"] = self.perceptual.distance(found[name], found["original"])
        for name, values in figures.items():
            self.log(f"validation/{name}", values.mean(), batch_size=len(values), sync_dist=True)

"""Elastic pre-training (paper Sec. 3.2): one supernet, whose sub-networks learn with it in every step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from pocketdit.backbones.by_width import Network
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.component import Component, build
from pocketdit.config.experiment import Training
from pocketdit.diffusion.path import interpolate, sample_times, velocity
from pocketdit.encoders.conditioning import drop
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.inputs import Encoders
from pocketdit.losses.flow_matching import flow_matching_loss, self_distillation_loss
from pocketdit.losses.validation import fixed_noise, level_times
from pocketdit.seeding import choose, generator
from pocketdit.teachers.contract import TeacherOutput
from pocketdit.training import gradients
from pocketdit.training.ema import averaged_copy, decay_at, follow
from pocketdit.training.nonfinite import stop_unless_finite
from pocketdit.training.sharding import full_tensor, shard
from pocketdit.training.update import ready, update


class Draw(NamedTuple):
    """What the networks of one step are given, and the velocity that they should find."""

    x_t: Tensor
    time: Tensor
    text: list[TextTokens]
    target: Tensor
    teacher_output: TeacherOutput | None = None
    """What a teacher makes of the same, in a stage that has one."""


class ElasticPretrain(LightningModule):
    """Full network and one uniformly sampled sub-network on the same x_t, t and text in every step.

    Loss: Eq. 4 for both, and Eq. 5 for the sub-network against the full network's detached prediction.
    The two backward passes follow one another, so that activations of one network at a time are held.

    ``time_shift``: shift of the logit-normal times towards noise; ``time_spread``: their standard deviation before
    the logistic function.
    ``drop_text``: probability of dropping a sample's text, for each encoder on its own.
    ``distillation_weight``: weight of Eq. 5.
    ``gradient_scaling``: "adaptive" gives the sub-network's gradient the full network's norm on the weights they
    share; "sum" adds the two as they are.
    """

    def __init__(
        self,
        backbone: Network,
        encoders: Encoders,
        optimizer: Component,
        training: Training,
        seed: int,
        time_shift: float = 1.0,
        time_spread: float = 1.0,
        drop_text: float = 0.1,
        distillation_weight: float = 1.0,
        gradient_scaling: Literal["adaptive", "sum"] = "adaptive",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.backbone = backbone
        self.average = averaged_copy(backbone)
        self.encoders = encoders
        self.optimizer = optimizer
        self.training_spec = training
        self.seed = seed
        self.time_shift = time_shift
        self.time_spread = time_spread
        self.drop_text = drop_text
        self.distillation_weight = distillation_weight
        self.gradient_scaling = gradient_scaling
        self.widths = backbone.spec.widths
        self.widest = max(self.widths)
        self.sub_widths = [width for width in self.widths if width != self.widest]

    def configure_model(self) -> None:
        """Under FSDP2, shard both networks block by block over the data-parallel ranks."""
        if self.device_mesh is not None and not isinstance(next(self.backbone.parameters()), DTensor):
            for network in (self.backbone, self.average):
                assert isinstance(network, ElasticDiT)
                shard(network, self.device_mesh["data_parallel"])

    def setup(self, stage: str) -> None:
        self.encoders.to(self.device)

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """Names and parameters that the optimizer moves."""
        return list(self.backbone.named_parameters())

    def configure_optimizers(self) -> Optimizer:
        return ready(build(self.optimizer, params=self.trained()))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        draw = self.draw(batch, batch_idx)
        losses = self.add_gradients(draw, batch_idx)
        stop_unless_finite(losses, batch, self)
        if (batch_idx + 1) % self.training_spec.accumulate == 0:
            losses |= self.update(batch)
        return losses

    def draw(self, batch: Mapping[str, Any], batch_idx: int) -> Draw:
        """What both networks are given in this step."""
        data = self.encoders.latents(batch)
        here = (self.seed, batch_idx, self.global_rank)
        text = drop(self.encoders.tokens(batch["captions"]), self.drop_text, generator("text", *here))
        time = sample_times(len(data), self.time_shift, self.time_spread, generator("time", *here)).to(data)
        noise = torch.randn(data.shape, generator=generator("noise", *here)).to(data)
        return Draw(interpolate(data, noise, time), time, text, velocity(data, noise))

    def loss(self, draw: Draw, width: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One network's loss, its prediction, and what to log."""
        prediction = self.backbone(draw.x_t, draw.time, draw.text, width=width)
        loss = flow_matching_loss(prediction, draw.target)
        return loss, prediction, {f"loss/width_{width:g}": loss.detach()}

    def add_gradients(self, draw: Draw, batch_idx: int) -> dict[str, Tensor]:
        """Both networks' losses, their gradients added to the parameters'. Returns what to log."""
        parameters = [parameter for _, parameter in self.trained()]
        share = 1 / self.training_spec.accumulate
        loss, prediction, losses = self.loss(draw, self.widest)
        if not self.sub_widths:
            self.manual_backward(loss * share)
            return losses

        earlier = gradients.take(parameters)
        self.manual_backward(loss * share)
        full = gradients.take(parameters)

        width = choose(self.sub_widths, "width", self.seed, batch_idx)
        sub_loss, sub_prediction, sub_losses = self.loss(draw, width)
        distillation = self_distillation_loss(sub_prediction, prediction)
        self.manual_backward((sub_loss + self.distillation_weight * distillation) * share)
        if self.gradient_scaling == "adaptive":
            losses["gradient_scale"] = gradients.balance(parameters, full)
        gradients.add(parameters, full)
        gradients.add(parameters, earlier)
        return losses | sub_losses | {f"distillation/width_{width:g}": distillation.detach()}

    def update(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """One optimizer step, and the average after it. Nothing moves where the gradient is not finite."""
        step = self.global_step
        parameters = [parameter for _, parameter in self.trained()]
        measured = update(self, {"gradient_norm": parameters}, self.training_spec, batch)
        decay = decay_at(step, self.training_spec.ema_decay)
        both = zip(self.average.parameters(), self.backbone.parameters(), strict=True)
        moved = [(average, live) for average, live in both if live.requires_grad]
        follow([average for average, _ in moved], [live for _, live in moved], decay)
        return measured

    @contextmanager
    def averaged(self) -> Iterator[Network]:
        """The network that samples and weights are made from."""
        yield self.average

    def weights(self) -> dict[str, Tensor]:
        """What ``weights.safetensors`` holds. Every rank must call it: sharded weights are gathered."""
        return {name: full_tensor(value) for name, value in self.average.state_dict().items()}

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Eq. 4 at eight fixed noise levels, for every width, with the averaged weights."""
        data = self.encoders.latents(batch)
        text = self.encoders.tokens(batch["captions"])
        totals = {width: torch.zeros((), device=data.device) for width in self.widths}
        for level, t in enumerate(level_times()):
            noise = fixed_noise(batch["ids"], level, data.shape[1:]).to(data)
            time = torch.full((len(data),), t, device=data.device)
            x_t, target = interpolate(data, noise, time), velocity(data, noise)
            for width in self.widths:
                loss = flow_matching_loss(self.average(x_t, time, text, width=width), target)
                totals[width] += loss / len(level_times())
                self.log(f"validation/level_{t:g}/width_{width:g}", loss, batch_size=len(data), sync_dist=True)
        for width, total in totals.items():
            self.log(f"validation/loss/width_{width:g}", total, batch_size=len(data), sync_dist=True)

"""Elastic pre-training (paper Sec. 3.2), which trains a supernet together with its sub-networks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.per_width import Network
from pocketdit.backbones.spec import FULL_WIDTH, UNetSpec
from pocketdit.bounds import Fraction, TimeShift, TimeSpread, Weight
from pocketdit.config.experiment import BaseExperiment, Experiment
from pocketdit.config.importing import import_class
from pocketdit.diffusion.path import draw_times, interpolate, velocity
from pocketdit.encoders.conditioning import text_dropout
from pocketdit.encoders.contract import TextTokens
from pocketdit.losses.flow_matching import flow_matching_loss, self_distillation_loss
from pocketdit.losses.validation import fixed_noise, level_times, sample_ids
from pocketdit.seeding import choose, generator
from pocketdit.stages.contract import Preview, Stage, StageInputs
from pocketdit.stages.elastic_cost import elastic_cost
from pocketdit.stages.previews import sampled_preview
from pocketdit.teachers.contract import TeacherOutput
from pocketdit.training import gradients
from pocketdit.training.cost import StageCost
from pocketdit.training.ema import ema_copy, ema_decay, update_ema
from pocketdit.training.muon import MuonAdamW
from pocketdit.training.nonfinite import stop_unless_finite
from pocketdit.training.optimizer import build_optimizer
from pocketdit.training.schedule_free import copy_averaged, is_schedule_free
from pocketdit.training.sharding import full_tensor, mesh_to_shard, shard
from pocketdit.training.step_samples import StepSamples
from pocketdit.training.update import batch_number, draw_position, prepare_optimizer, update_weights


class PriorBatch(NamedTuple):
    """Inputs for which fine-tuning should not change the predictions (see ``Finetune``).

    The fields are the same as in ``NoisyBatch``.
    """

    x_t: Tensor
    time: Tensor
    text: list[TextTokens]


class NoisyBatch(NamedTuple):
    """The shared inputs of both networks in one step, and the velocity that they should predict.

    Attributes:
        x_t: Noisy latents, (B, C, h, w).
        time: Times, (B,).
        text: One ``TextTokens`` per text encoder.
        target: Target velocity, (B, C, h, w).
        teacher_output: The teacher's predictions for the same inputs, if the stage has a teacher.
        prior: Inputs for which the network should still predict what it did before fine-tuning, if the stage has any.
    """

    x_t: Tensor
    time: Tensor
    text: list[TextTokens]
    target: Tensor
    teacher_output: TeacherOutput | None = None
    prior: PriorBatch | None = None


class ElasticPretrain(LightningModule, Stage):
    """Stage that trains the full network and one random sub-network on the same x_t, t, and text in every step.

    The loss is Eq. 4 for both networks, plus Eq. 5 between the sub-network's prediction and the full network's detached
    prediction. The two backward passes run one after the other, so only one network's activations are in memory at a
    time.

    Args:
        inputs: The network, encoders, and settings of the run.
        time_shift: Factor by which the logit-normal times are shifted toward noise.
        time_spread: Standard deviation of the times before the logistic function is applied.
        drop_text: Probability of dropping a sample's text, independently for each text encoder.
        distillation_weight: Weight of Eq. 5.
        gradient_scaling: "adaptive" scales the sub-network's gradient to the norm of the full network's gradient on
            their shared weights; "sum" adds the two gradients unscaled.
    """

    def __init__(
        self,
        inputs: StageInputs[Network],
        time_shift: TimeShift = 1.0,
        time_spread: TimeSpread = 1.0,
        drop_text: Fraction = 0.1,
        distillation_weight: Weight = 1.0,
        gradient_scaling: Literal["adaptive", "sum"] = "adaptive",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.backbone = inputs.network
        self.ema = ema_copy(inputs.network)
        self.encoders = inputs.encoders
        self.optimizer = inputs.optimizer
        self.training_spec = inputs.training
        self.step_samples = StepSamples(inputs.training.accumulate)
        self.full_gradients: gradients.Gradients = []
        self.sampling = inputs.sampling
        self.seed = inputs.seed
        self.time_shift = time_shift
        self.time_spread = time_spread
        self.drop_text = drop_text
        self.distillation_weight = distillation_weight
        self.gradient_scaling = gradient_scaling
        self.widths = self.backbone.spec.widths
        self.widest = max(self.widths)
        self.sub_widths = [width for width in self.widths if width != self.widest]

    @classmethod
    @override
    def check(cls, experiment: BaseExperiment) -> None:
        require_full_width(experiment)
        assert isinstance(experiment, Experiment)
        if isinstance(experiment.backbone, UNetSpec) and experiment.training.strategy == "fsdp2":
            raise ValueError("training.strategy: fsdp2 does not support a U-Net; use ddp")
        if isinstance(experiment.backbone, UNetSpec) and import_class(experiment.optimizer.class_path) is MuonAdamW:
            raise ValueError("optimizer.class_path: MuonAdamW does not support a U-Net; use torch.optim.AdamW")

    @classmethod
    @override
    def logged_metrics(cls, experiment: BaseExperiment) -> Sequence[str]:
        assert isinstance(experiment, Experiment)
        widths = experiment.backbone.widths
        levels = [f"validation/level_{t:g}/width_{width:g}" for t in level_times() for width in widths]
        return [*(f"validation/loss/width_{width:g}" for width in widths), *levels]

    @classmethod
    @override
    def cost(cls, experiment: BaseExperiment) -> StageCost:
        assert isinstance(experiment, Experiment)
        return elastic_cost(experiment)

    def configure_model(self) -> None:
        """Under FSDP2, shard the backbone and its EMA copy across the data-parallel ranks."""
        if mesh := mesh_to_shard(self, self.backbone):
            for network in (self.backbone, self.ema):
                assert isinstance(network, ElasticDiT)
                shard(network, mesh, self.training_spec.sharding)

    def trained_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return the (name, parameter) pairs that the optimizer updates."""
        return [(name, value) for name, value in self.backbone.named_parameters() if value.requires_grad]

    def configure_optimizers(self) -> Optimizer:
        """Build the configured optimizer for the trained parameters."""
        return prepare_optimizer(build_optimizer(self.optimizer, self.trained_parameters()))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Accumulate the gradients of a batch and, after every ``accumulate`` batches, update the weights."""
        number = batch_number(self, batch_idx)
        share = self.step_samples.share(len(batch["captions"]))
        losses = self.add_gradients(self.prepare(batch, number), number, share)
        stop_unless_finite(losses, batch, self)
        if (number + 1) % self.training_spec.accumulate == 0:
            losses |= self.combine_gradients()
            self.step_samples.normalize(parameter for _, parameter in self.trained_parameters())
            losses |= self.update(batch)
        return losses

    def prepare(self, batch: Mapping[str, Any], number: int) -> NoisyBatch:
        """Encode a batch and add noise. The batch index ``number`` is part of the seed of all random draws."""
        data = self.encoders.latents(batch)
        position = draw_position(self, self.seed, number)
        text = text_dropout(self.encoders.text_of(batch), self.drop_text, generator("text", *position))
        time = draw_times(len(data), self.time_shift, self.time_spread, generator("time", *position)).to(data)
        noise = torch.randn(data.shape, generator=generator("noise", *position)).to(data)
        return NoisyBatch(interpolate(data, noise, time), time, text, velocity(data, noise))

    def loss(self, noisy: NoisyBatch, width: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss at one width, the prediction, and the values to log."""
        prediction = self.backbone(noisy.x_t, noisy.time, noisy.text, width=width)
        loss = flow_matching_loss(prediction, noisy.target)
        return loss, prediction, {f"loss/width_{width:g}": loss.detach()}

    def add_gradients(self, noisy: NoisyBatch, number: int, share: float = 1.0) -> dict[str, Tensor]:
        """Add a batch's gradients to those of the current step, and return the values to log.

        The full network's gradients accumulate in ``full_gradients``, and the sub-network's in the parameters.

        Args:
            noisy: The batch.
            number: Index of the batch. The index of its step seeds the choice of the sub-network.
            share: Weight of the batch in its step.
        """
        parameters = [parameter for _, parameter in self.trained_parameters()]
        if not self.sub_widths:
            loss, _, losses = self.loss(noisy, self.widest)
            self.manual_backward(loss * share)
            return losses

        sub = gradients.swap(parameters, self.full_gradients)
        loss, prediction, losses = self.loss(noisy, self.widest)
        self.manual_backward(loss * share)
        self.full_gradients = gradients.swap(parameters, sub)

        width = choose(self.sub_widths, "width", self.seed, number // self.training_spec.accumulate)
        sub_loss, sub_prediction, sub_losses = self.loss(noisy, width)
        distillation = self_distillation_loss(sub_prediction, prediction)
        self.manual_backward((sub_loss + self.distillation_weight * distillation) * share)
        return losses | sub_losses | {f"distillation/width_{width:g}": distillation.detach()}

    def combine_gradients(self) -> dict[str, Tensor]:
        """Add the gradients that the two networks accumulated during a step, and return the values to log."""
        if not self.sub_widths:
            return {}
        parameters = [parameter for _, parameter in self.trained_parameters()]
        full, self.full_gradients = self.full_gradients, []
        is_adaptive = self.gradient_scaling == "adaptive"
        logged = {"gradient_scale": gradients.balance(parameters, full)} if is_adaptive else {}
        gradients.add(parameters, full)
        return logged

    def update(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Take an optimizer step, update the EMA weights, and return the values to log.

        A schedule-free optimizer averages the weights itself, and its average is copied to the EMA weights.
        """
        step = self.global_step
        parameters = [parameter for _, parameter in self.trained_parameters()]
        logged = update_weights(self, {"gradient_norm": parameters}, self.training_spec, batch)
        pairs = zip(self.ema.parameters(), self.backbone.parameters(), strict=True)
        moving = [(ema, weight) for ema, weight in pairs if weight.requires_grad]
        averages, weights = [ema for ema, _ in moving], [weight for _, weight in moving]
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        if is_schedule_free(optimizer):
            copy_averaged(optimizer, averages, weights)
        else:
            update_ema(averages, weights, ema_decay(step, self.training_spec.ema_decay))
        return logged

    @contextmanager
    def ema_network(self) -> Iterator[Network]:
        """Yield the network with the EMA weights, for sampling."""
        yield self.ema

    def preview(self, final: bool) -> Preview | None:
        """Sample images for the configured prompts at every width."""
        return sampled_preview(self, self.ema_network(), self.encoders, self.sampling, final)

    def weights(self) -> dict[str, Tensor]:
        """Return the EMA weights of the backbone."""
        return {name: full_tensor(value) for name, value in self.ema.state_dict().items()}

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Log the loss of Eq. 4 at eight fixed noise levels for every width, using the EMA weights."""
        data = self.encoders.latents(batch)
        text = self.encoders.text_of(batch)
        ids = sample_ids(batch, batch_idx * self.trainer.world_size + self.global_rank)
        totals = {width: torch.zeros((), device=data.device) for width in self.widths}
        for level, t in enumerate(level_times()):
            noise = fixed_noise(ids, level, data.shape[1:]).to(data)
            time = torch.full((len(data),), t, device=data.device)
            x_t, target = interpolate(data, noise, time), velocity(data, noise)
            for width in self.widths:
                loss = flow_matching_loss(self.ema(x_t, time, text, width=width), target)
                totals[width] += loss / len(level_times())
                self.log(f"validation/level_{t:g}/width_{width:g}", loss, batch_size=len(data), sync_dist=True)
        for width, total in totals.items():
            self.log(f"validation/loss/width_{width:g}", total, batch_size=len(data), sync_dist=True)


def require_dit(experiment: BaseExperiment) -> None:
    """Raise ``ConfigError`` if the network is a U-Net, which only ``ElasticPretrain`` can train."""
    assert isinstance(experiment, Experiment)
    _ = experiment.dit


def require_full_width(experiment: BaseExperiment) -> None:
    """Raise ``ValueError`` if the widths do not include the full network, from which the sub-networks learn."""
    assert isinstance(experiment, Experiment)
    if FULL_WIDTH not in experiment.backbone.widths:
        raise ValueError("backbone.widths must include 1.0, because the sub-networks learn from the full network")

"""Step distillation with K-DMD or plain DMD, using LoRA on a frozen base (paper Sec. 3.3, Eq. 9 and 10)."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.lora import active_adapter
from pocketdit.backbones.per_width import Network, split_by_width
from pocketdit.bounds import Count, TimeShift, Weight
from pocketdit.config.component import build
from pocketdit.config.experiment import BaseExperiment, Experiment
from pocketdit.config.optimizers import LORA, OWN_EMA
from pocketdit.data_contract import DataDescription
from pocketdit.diffusion.path import data_from_velocity, interpolate, shift_time, velocity
from pocketdit.diffusion.rollout import euler_rollout
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError
from pocketdit.losses.distillation import output_loss
from pocketdit.losses.distribution_matching import distribution_matching_loss
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.seeding import choose, generator
from pocketdit.stages.contract import Preview, Stage, StageInputs
from pocketdit.stages.cost_inputs import stage_settings
from pocketdit.stages.distillation_cost import step_distillation_cost
from pocketdit.stages.elastic_pretrain import require_dit, require_full_width
from pocketdit.stages.lora_roles import (
    CRITIC,
    STUDENT,
    add_roles,
    ema_active,
    role_parameters,
    saved_weights,
    update_student_ema,
)
from pocketdit.stages.previews import sampled_preview
from pocketdit.stages.projectors import build_projectors, projected_feature_loss, shard_projectors
from pocketdit.stages.teaching import require_same_channels, require_same_latents, teacher_condition
from pocketdit.teachers.contract import Teacher
from pocketdit.training.compilation import compile_blocks
from pocketdit.training.cost import StageCost
from pocketdit.training.ema import ema_decay
from pocketdit.training.nonfinite import stop_unless_finite
from pocketdit.training.optimizer import require_optimizer
from pocketdit.training.sharding import mesh_to_shard, shard
from pocketdit.training.step_samples import StepSamples
from pocketdit.training.update import batch_number, draw_position, prepare_optimizer, update_weights

# The range of times at which DMD2 compares the teacher with the critic, before the shift.
MIN_TIME, MAX_TIME = 0.02, 0.98


class Iteration(NamedTuple):
    """The inputs of one iteration.

    Attributes:
        width: The width whose student and critic are trained.
        x_t: The student's input, (B, C, h, w).
        time: Times of ``x_t``, (B,).
        text: One ``TextTokens`` per text encoder.
        condition: The captions as encoded by the teacher.
        position: Seed of the iteration's random draws (see ``draw_position``).
    """

    width: float
    x_t: Tensor
    time: Tensor
    text: Sequence[TextTokens]
    condition: Any
    position: tuple[int, int, int]


class StepDistill(LightningModule, Stage):
    """Stage that distills a few-step student at every width with L = L_DMD + L_out + L_feat (Eq. 10).

    Each width has a student and a critic that tracks the student. Both are LoRA adapters on one frozen base. If L_out
    and L_feat have weight 0, this is plain DMD and requires no few-step teacher. In every iteration, the critic of one
    width learns the student's samples by flow matching (Eq. 4). In every ``student_every``-th iteration, the student is
    also updated, and the next iteration trains the next width. ``training.max_steps`` counts iterations, that is,
    critic updates, as in the paper.

    Args:
        inputs: The network, encoders, and settings of the run.
        teacher: The frozen teacher, with a few-step LoRA for L_out and L_feat.
        steps: Number of sampling steps of the student.
        time_shift: Factor by which the sampling times and the times of L_DMD are shifted toward noise.
        guidance: The teacher's guidance scale in L_DMD. The few-step teacher is used without guidance.
        rank: LoRA rank.
        alpha: LoRA alpha.
        student_every: Number of critic updates per student update.
        critic_rate: The critic's learning rate as a multiple of the student's.
        matching_weight: Weight of L_DMD.
        output_weight: Weight of L_out.
        feature_weight: Weight of L_feat. The projectors that it requires are newly initialized.
        student_input: With "rollout", the student takes its own sampling steps from noise to a randomly chosen sampling
            time. With "data", noise is added to real data for that time, as in the original DMD.
    """

    def __init__(
        self,
        inputs: StageInputs[ElasticDiT],
        teacher: Teacher,
        steps: Count = 4,
        time_shift: TimeShift = 3.0,
        guidance: float = 4.0,
        rank: Count = 64,
        alpha: float = 128.0,
        student_every: Count = 5,
        critic_rate: float = 1.0,
        matching_weight: Weight = 1.0,
        output_weight: Weight = 1.0,
        feature_weight: Weight = 1.0,
        student_input: Literal["rollout", "data"] = "rollout",
    ) -> None:
        super().__init__()
        if not (matching_weight or output_weight or feature_weight):
            raise ConfigError("stage: matching_weight, output_weight, and feature_weight are all 0; set at least one")
        if (output_weight or feature_weight) and not teacher.has_few_step:
            reason = "output_weight and feature_weight require a few-step teacher"
            raise ConfigError(f"stage: {reason}; add one to the teacher, or set both weights to 0 for plain DMD")
        require_same_channels(inputs, teacher)
        self.automatic_optimization = False
        spec, training = inputs.network.spec, inputs.training
        self.networks = split_by_width(inputs.network.requires_grad_(False), share_weights=True)
        for width in spec.widths:
            network = self.networks.for_width(width)
            add_roles(network, rank, alpha)
            network.use_gradient_checkpointing(training.gradient_checkpointing)
            if training.compile:
                compile_blocks(network)
        self.projectors = build_projectors(spec, teacher) if feature_weight else None
        self.encoders = inputs.encoders
        self.teacher = teacher
        self.optimizer = inputs.optimizer
        self.training_spec = training
        self.step_samples = StepSamples(training.accumulate)
        self.sampling = inputs.sampling
        self.seed = inputs.seed
        self.times = uniform_times(steps, time_shift)
        self.time_shift = time_shift
        self.guidance = guidance
        self.student_every = student_every
        self.critic_rate = critic_rate
        self.matching_weight = matching_weight
        self.output_weight = output_weight
        self.feature_weight = feature_weight
        self.student_input = student_input
        self.widths = sorted(spec.widths)

    @classmethod
    @override
    def check(cls, experiment: BaseExperiment) -> None:
        require_full_width(experiment)
        require_dit(experiment)
        require_optimizer(experiment.optimizer, LORA, OWN_EMA)
        if experiment.training.validate_every:
            raise ValueError(
                "training.validate_every must be 0, since a few-step model has no validation loss; evaluate its samples"
            )

    @classmethod
    @override
    def check_data(cls, experiment: BaseExperiment, data: DataDescription) -> None:
        require_same_latents(experiment)

    @classmethod
    @override
    def uses_few_step(cls, experiment: BaseExperiment) -> bool:
        return any(stage_settings(experiment)[name] for name in ("output_weight", "feature_weight"))

    @classmethod
    @override
    def cost(cls, experiment: BaseExperiment) -> StageCost:
        assert isinstance(experiment, Experiment)
        return step_distillation_cost(experiment)

    def configure_model(self) -> None:
        """Under FSDP2, shard every width's network and the teacher across the data-parallel ranks.

        The student and the critic of a width still share one base, but different widths no longer share weights.
        """
        mesh = mesh_to_shard(self, self.networks)
        if mesh is None:
            return
        self.teacher.shard(mesh)
        self.networks.unshare_weights()
        for width in self.widths:
            shard(self.networks.for_width(width), mesh, self.training_spec.sharding)
        if self.projectors is not None:
            shard_projectors(self.projectors, mesh)

    def on_fit_start(self) -> None:
        """Move the teacher to the module's device."""
        self.teacher.to(self.device)

    def configure_optimizers(self) -> Optimizer:
        """Build one optimizer with a parameter group for the students and one for the critics.

        A group without gradients is not updated.
        """
        groups = [{"params": self.student_parameters()}, {"params": self.critic_parameters()}]
        optimizer = build(self.optimizer, params=groups)
        optimizer.param_groups[1]["lr"] *= self.critic_rate
        return prepare_optimizer(optimizer)

    def student_parameters(self) -> list[nn.Parameter]:
        """Return the LoRA weights of every width's student, and the projectors' weights."""
        projectors = [] if self.projectors is None else list(self.projectors.parameters())
        return role_parameters(self.networks, STUDENT) + projectors

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return the LoRA weights of every width's critic."""
        return role_parameters(self.networks, CRITIC)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Train one width's critic and, every ``student_every`` iterations, its student."""
        number = batch_number(self, batch_idx)
        iteration = number // self.training_spec.accumulate
        width = self.widths[iteration // self.student_every % len(self.widths)]
        trains_student = (iteration + 1) % self.student_every == 0
        share = self.step_samples.share(len(batch["captions"]))
        inputs = self.prepare(batch, number, iteration, width)
        losses: dict[str, Tensor] = {}
        if trains_student:
            x_0, student_losses = self.student_gradients(inputs, share)
            losses |= student_losses
        else:
            with torch.no_grad():
                v = self.networks(inputs.x_t, inputs.time, inputs.text, width)
            x_0 = data_from_velocity(inputs.x_t, inputs.time, v)
        losses["loss/critic"] = self.critic_gradients(inputs, x_0.detach().float(), share)
        # Only losses are checked, because a health metric can be infinite for a sample that the loss excludes.
        stop_unless_finite({k: v for k, v in losses.items() if k.startswith("loss/")}, batch, self)
        if (number + 1) % self.training_spec.accumulate == 0:
            groups = {
                "gradient_norm/student": self.student_parameters(),
                "gradient_norm/critic": self.critic_parameters(),
            }
            self.step_samples.normalize(chain(*groups.values()))
            losses |= update_weights(self, groups, self.training_spec, batch)
            if trains_student:
                student_updates = iteration // (self.student_every * len(self.widths))
                update_student_ema(
                    self.networks.for_width(width), ema_decay(student_updates, self.training_spec.ema_decay)
                )
        return losses | {f"width_{width:g}/{name}": value for name, value in losses.items()}

    def prepare(self, batch: Mapping[str, Any], number: int, iteration: int, width: float) -> Iteration:
        """Prepare the student's input at one of its sampling times, which is the same on every rank."""
        text = self.encoders.text_of(batch)
        position = draw_position(self, self.seed, number)
        noise = torch.randn(self.encoders.latent_shape(batch), generator=generator("noise", *position)).to(self.device)
        steps = int(choose(range(len(self.times) - 1), "roll-out", self.seed, iteration))
        if self.student_input == "rollout":
            network = self.networks.for_width(width)
            x_t, time = euler_rollout(lambda x, t: network(x, t, text).float(), noise, self.times, steps)
        else:
            time = torch.full((len(noise),), self.times[steps], device=self.device)
            x_t = interpolate(self.encoders.latents(batch), noise, time)
        return Iteration(width, x_t, time, text, teacher_condition(self.teacher, batch), position)

    def student_gradients(self, inputs: Iteration, share: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradient of Eq. 10 to the student's gradient.

        Returns:
            The student's estimate of the data, (B, C, h, w), and the values to log.
        """
        network = self.networks.for_width(inputs.width)
        v, features = network.forward_with_features(inputs.x_t, inputs.time, inputs.text)
        x_0 = data_from_velocity(inputs.x_t, inputs.time, v.float())
        losses: dict[str, Tensor] = {}
        total = torch.zeros((), device=x_0.device)
        if self.matching_weight:
            noise, time = self.draw_noise("matching", x_0, inputs.position)
            with active_adapter(network, CRITIC, restore=STUDENT):
                losses["loss/matching"], losses["health/p_real"] = distribution_matching_loss(
                    x_0,
                    noise,
                    time,
                    real=lambda x, t: self.teacher.predict(x, t, inputs.condition, self.guidance).velocity,
                    fake=lambda x, t: network(x, t, inputs.text).float(),
                )
            total = total + self.matching_weight * losses["loss/matching"]
        if self.output_weight or self.feature_weight:
            with self.teacher.few_step():
                few_step = self.teacher.predict(inputs.x_t, inputs.time, inputs.condition)
            losses["loss/output"] = output_loss(v, few_step.velocity).mean()
            total = total + self.output_weight * losses["loss/output"]
            if self.projectors is not None:
                losses["loss/feature"] = projected_feature_loss(self.projectors, features, few_step).mean()
                total = total + self.feature_weight * losses["loss/feature"]
        self.manual_backward(total * share)
        return x_0, {name: value.detach() for name, value in losses.items()}

    def critic_gradients(self, inputs: Iteration, x_0: Tensor, share: float = 1.0) -> Tensor:
        """Add the gradient of Eq. 4 on the student's data estimate to the critic's gradient, and return the loss."""
        network = self.networks.for_width(inputs.width)
        noise, time = self.draw_noise("critic", x_0, inputs.position)
        with active_adapter(network, CRITIC, restore=STUDENT):
            loss = flow_matching_loss(network(interpolate(x_0, noise, time), time, inputs.text), velocity(x_0, noise))
            self.manual_backward(loss * share)
        return loss.detach()

    def draw_noise(self, purpose: str, x_0: Tensor, position: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Draw noise with the shape of ``x_0``, and times that are uniform in [0.02, 0.98] and then shifted."""
        times = generator(f"{purpose} times", *position)
        time = MIN_TIME + (MAX_TIME - MIN_TIME) * torch.rand(len(x_0), generator=times)
        noise = torch.randn(x_0.shape, generator=generator(f"{purpose} noise", *position))
        return noise.to(x_0), shift_time(time, self.time_shift).to(x_0)

    def ema_network(self) -> AbstractContextManager[Network]:
        """Return a context manager that provides the networks with the students' EMA weights."""
        return ema_active(self.networks)

    def preview(self, final: bool) -> Preview | None:
        """Sample images for the configured prompts at every width."""
        return sampled_preview(self, self.ema_network(), self.encoders, self.sampling, final)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the base supernet and the EMA weights of every width's LoRA."""
        return saved_weights(self.networks)

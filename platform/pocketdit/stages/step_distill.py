"""Step distillation (paper Sec. 3.3, Eq. 9 and 10): K-DMD, and plain DMD, by LoRA on a frozen base."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from pocketdit.backbones.by_width import LORA, Network, base_parameters, split
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.lora import activate, adapter_parameters, add_adapters, scaling, using
from pocketdit.config.component import Component, build
from pocketdit.config.experiment import Training
from pocketdit.diffusion.path import data_from_velocity, interpolate, shift, velocity
from pocketdit.diffusion.rollout import roll_out
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError
from pocketdit.losses.distillation import output_loss
from pocketdit.losses.distribution_matching import distribution_matching_loss
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.seeding import choose, generator
from pocketdit.stages.projectors import build_projectors, projected_feature_loss, shard_projectors
from pocketdit.teachers.contract import Teacher
from pocketdit.training.compilation import compile_blocks
from pocketdit.training.ema import decay_at, follow
from pocketdit.training.nonfinite import stop_unless_finite
from pocketdit.training.sharding import full_tensor, shard
from pocketdit.training.update import ready, update

STUDENT, CRITIC, AVERAGE = "student", "critic", "average"
# DMD2's range of the times at which teacher and critic are compared, before the shift.
LEAST_TIME, MOST_TIME = 0.02, 0.98


class Given(NamedTuple):
    """What one iteration is about. ``condition`` is the text as the teacher takes it."""

    width: float
    x_t: Tensor
    time: Tensor
    text: Sequence[TextTokens]
    condition: Any
    here: tuple[int, int, int]


class StepDistill(LightningModule):
    """A few-step student of every width: L = L_DMD + L_out + L_feat (Eq. 10), with a critic that follows it.

    Student and critic are LoRA sets on one frozen base, and every width has its own pair; without weights for
    L_out and L_feat it is plain DMD and needs no few-step teacher. In every iteration one width's critic learns
    the student's pictures by flow matching (Eq. 4); in every ``student_every``-th its student moves. Then the next
    width has its turn. ``training.max_steps`` are iterations, as the paper counts them: critic updates.

    The student's input is rolled out from noise to a random one of its ``steps`` times (``student_input``
    "rollout"), or is real data with noise of that time (DMD's first form). Times are shifted by ``time_shift``;
    ``guidance`` is the teacher's in L_DMD; the few-step teacher has none. ``rank``, ``alpha``: of LoRA.
    ``critic_rate``: the critic's learning rate as a multiple of the student's. Projectors of L_feat begin anew.
    """

    def __init__(
        self,
        backbone: ElasticDiT,
        encoders: Encoders,
        optimizer: Component,
        training: Training,
        seed: int,
        teacher: Teacher,
        steps: int = 4,
        time_shift: float = 3.0,
        guidance: float = 4.0,
        rank: int = 64,
        alpha: float = 128.0,
        student_every: int = 5,
        critic_rate: float = 1.0,
        matching_weight: float = 1.0,
        output_weight: float = 1.0,
        feature_weight: float = 1.0,
        student_input: Literal["rollout", "data"] = "rollout",
    ) -> None:
        super().__init__()
        if steps < 1 or rank < 1 or student_every < 1:
            raise ValueError("steps, rank and student_every must be at least 1")
        if training.validate_every:
            raise ConfigError("training.validate_every must be 0: a few-step model has no validation loss; score it")
        if not (matching_weight or output_weight or feature_weight):
            raise ConfigError("stage: matching_weight, output_weight and feature_weight are all 0: nothing to learn")
        if (output_weight or feature_weight) and not teacher.has_few_step:
            raise ConfigError(
                "stage: output_weight and feature_weight need a few-step teacher: give the teacher its LoRA, "
                "or set both to 0 for plain DMD"
            )
        self.automatic_optimization = False
        self.networks = split(backbone.requires_grad_(False), share=True)
        for width in backbone.spec.widths:
            network = self.networks.at(width)
            add_adapters(network, (STUDENT, CRITIC, AVERAGE), rank, alpha)
            for parameter in adapter_parameters(network, AVERAGE).values():
                parameter.requires_grad_(False)
            network.use_gradient_checkpointing(training.gradient_checkpointing)
            if training.compile:
                compile_blocks(network)
        self.projectors = build_projectors(backbone.spec, teacher) if feature_weight else None
        self.encoders = encoders
        self.teacher = teacher
        self.optimizer = optimizer
        self.training_spec = training
        self.seed = seed
        self.times = uniform_times(steps, time_shift)
        self.time_shift = time_shift
        self.guidance = guidance
        self.student_every = student_every
        self.critic_rate = critic_rate
        self.matching_weight = matching_weight
        self.output_weight = output_weight
        self.feature_weight = feature_weight
        self.student_input = student_input
        self.widths = sorted(backbone.spec.widths)
        for width in self.widths:
            self.copy_student(width, decay=0.0)

    def configure_model(self) -> None:
        """Under FSDP2, shard every width's network and the teacher over the data-parallel ranks.

        Student and critic of a width still share their base; the widths do not.
        """
        if self.device_mesh is None or isinstance(next(self.networks.parameters()), DTensor):
            return
        mesh = self.device_mesh["data_parallel"]
        self.teacher.shard(mesh)
        self.networks.separate()
        for width in self.widths:
            shard(self.networks.at(width), mesh)
        if self.projectors is not None:
            shard_projectors(self.projectors, mesh)

    def setup(self, stage: str) -> None:
        self.encoders.to(self.device)

    def on_fit_start(self) -> None:
        self.teacher.to(self.device)

    def configure_optimizers(self) -> Optimizer:
        """One optimizer with a group for students and one for critics: a group without gradients stays as it is."""
        groups = [{"params": self.student_parameters()}, {"params": self.critic_parameters()}]
        optimizer = build(self.optimizer, params=groups)
        optimizer.param_groups[1]["lr"] *= self.critic_rate
        return ready(optimizer)

    def student_parameters(self) -> list[nn.Parameter]:
        """LoRA of every width's student, and the projectors."""
        projectors = [] if self.projectors is None else list(self.projectors.parameters())
        return [p for w in self.widths for p in adapter_parameters(self.networks.at(w), STUDENT).values()] + projectors

    def critic_parameters(self) -> list[nn.Parameter]:
        return [p for w in self.widths for p in adapter_parameters(self.networks.at(w), CRITIC).values()]

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        iteration = batch_idx // self.training_spec.accumulate
        width = self.widths[iteration // self.student_every % len(self.widths)]
        students_turn = (iteration + 1) % self.student_every == 0
        given = self.prepare(batch, batch_idx, iteration, width)
        losses: dict[str, Tensor] = {}
        if students_turn:
            x_0, student_losses = self.student_gradients(given)
            losses |= student_losses
        else:
            with torch.no_grad():
                x_0 = data_from_velocity(given.x_t, given.time, self.networks(given.x_t, given.time, given.text, width))
        losses["loss/critic"] = self.critic_gradients(given, x_0.detach().float())
        # Of the health figures one may be infinite for a sample whose gradient the loss has left out.
        stop_unless_finite({k: v for k, v in losses.items() if k.startswith("loss/")}, batch, self)
        if (batch_idx + 1) % self.training_spec.accumulate == 0:
            groups = {"gradient_norm/student": self.student_parameters(),
                      "gradient_norm/critic": self.critic_parameters()}  # fmt: skip
            losses |= update(self, groups, self.training_spec, batch)
            if students_turn:
                students_steps = iteration // (self.student_every * len(self.widths))
                self.copy_student(width, decay_at(students_steps, self.training_spec.ema_decay))
        return losses | {f"width_{width:g}/{name}": value for name, value in losses.items()}

    def prepare(self, batch: Mapping[str, Any], batch_idx: int, iteration: int, width: float) -> Given:
        """The student's input at one of its times, the same time on every rank."""
        text = self.encoders.tokens(batch["captions"])
        here = (self.seed, batch_idx, self.global_rank)
        noise = torch.randn(self.encoders.latent_shape(batch), generator=generator("noise", *here)).to(self.device)
        number = int(choose(range(len(self.times) - 1), "roll-out", self.seed, iteration))
        if self.student_input == "rollout":
            network = self.networks.at(width)
            x_t, time = roll_out(lambda x, t: network(x, t, text).float(), noise, self.times, number)
        else:
            time = torch.full((len(noise),), self.times[number], device=self.device)
            x_t = interpolate(self.encoders.latents(batch), noise, time)
        return Given(width, x_t, time, text, self.teacher.condition(batch["captions"]), here)

    def student_gradients(self, given: Given) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 10: its gradient added to the student's. Returns the student's data estimate and what to log."""
        network = self.networks.at(given.width)
        v, features = network.with_features(given.x_t, given.time, given.text)
        x_0 = data_from_velocity(given.x_t, given.time, v.float())
        losses: dict[str, Tensor] = {}
        total = torch.zeros((), device=x_0.device)
        if self.matching_weight:
            noise, time = self.compared_at(x_0, "matching", given.here)
            with using(network, CRITIC, afterwards=STUDENT):
                losses["loss/matching"], losses["health/p_real"] = distribution_matching_loss(
                    x_0, noise, time,
                    real=lambda x, t: self.teacher.predict(x, t, given.condition, self.guidance).velocity,
                    fake=lambda x, t: network(x, t, given.text).float(),
                )  # fmt: skip
            total = total + self.matching_weight * losses["loss/matching"]
        if self.output_weight or self.feature_weight:
            with self.teacher.few_step():
                teacher_output = self.teacher.predict(given.x_t, given.time, given.condition)
            losses["loss/output"] = output_loss(v, teacher_output.velocity).mean()
            total = total + self.output_weight * losses["loss/output"]
            if self.projectors is not None:
                losses["loss/feature"] = projected_feature_loss(self.projectors, features, teacher_output).mean()
                total = total + self.feature_weight * losses["loss/feature"]
        self.manual_backward(total / self.training_spec.accumulate)
        return x_0, {name: value.detach() for name, value in losses.items()}

    def critic_gradients(self, given: Given, x_0: Tensor) -> Tensor:
        """Eq. 4 on the student's data: its gradient added to the critic's. Returns the loss."""
        network = self.networks.at(given.width)
        noise, time = self.compared_at(x_0, "critic", given.here)
        with using(network, CRITIC, afterwards=STUDENT):
            loss = flow_matching_loss(network(interpolate(x_0, noise, time), time, given.text), velocity(x_0, noise))
            self.manual_backward(loss / self.training_spec.accumulate)
        return loss.detach()

    def compared_at(self, x_0: Tensor, purpose: str, here: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """A noise, and times at which to add it: uniform in [0.02, 0.98], shifted."""
        draws = generator(f"{purpose} times", *here)
        time = LEAST_TIME + (MOST_TIME - LEAST_TIME) * torch.rand(len(x_0), generator=draws)
        noise = torch.randn(x_0.shape, generator=generator(f"{purpose} noise", *here))
        return noise.to(x_0), shift(time, self.time_shift).to(x_0)

    def copy_student(self, width: float, decay: float) -> None:
        """The averaged student follows the student."""
        network = self.networks.at(width)
        average, student = (list(adapter_parameters(network, name).values()) for name in (AVERAGE, STUDENT))
        follow(average, student, decay)

    @contextmanager
    def averaged(self) -> Iterator[Network]:
        """The networks with the averaged students."""
        for width in self.widths:
            activate(self.networks.at(width), AVERAGE)
        try:
            yield self.networks
        finally:
            for width in self.widths:
                activate(self.networks.at(width), STUDENT)

    def weights(self) -> dict[str, Tensor]:
        """The base supernet, and every width's averaged LoRA (see ``lora_pairs``)."""
        found: dict[str, Tensor] = {}
        for width in self.widths:
            network = self.networks.at(width)
            # From narrow to wide: a wider network's weights hold the narrower ones'.
            found |= {name: full_tensor(value) for name, value in base_parameters(network).items()}
            factor = scaling(network, AVERAGE)
            for name, value in adapter_parameters(network, AVERAGE).items():
                key = f"{LORA}{self.networks.spec.hidden(width)}.{name}"
                found[key] = full_tensor(value) * (factor if name.endswith(".B") else 1.0)
        return found

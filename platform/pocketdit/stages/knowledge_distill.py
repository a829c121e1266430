"""Knowledge distillation (paper Sec. 3.3, Eq. 6 to 8), which is elastic training with a large teacher."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.bounds import Fraction, TimeShift, TimeSpread, Weight
from pocketdit.config.experiment import BaseExperiment, Experiment
from pocketdit.data_contract import DataDescription
from pocketdit.losses.distillation import output_loss, task_weight, timestep_scaling
from pocketdit.losses.flow_matching import per_sample_loss
from pocketdit.stages.contract import StageInputs
from pocketdit.stages.distillation_cost import knowledge_distillation_cost
from pocketdit.stages.elastic_pretrain import ElasticPretrain, NoisyBatch, require_dit
from pocketdit.stages.projectors import build_projectors, projected_feature_loss, shard_projectors
from pocketdit.stages.teaching import any_visible, require_same_channels, require_same_latents, teacher_condition
from pocketdit.teachers.contract import Teacher
from pocketdit.training.cost import StageCost
from pocketdit.training.sharding import mesh_to_shard


class KnowledgeDistill(ElasticPretrain):
    """Stage that trains the full network and one random sub-network in every step, both with a teacher.

    The loss of each network is L = S(L_diff, L_out) + L_feat (Eq. 8). If a sample's text is dropped for all encoders,
    the sample is compared with the teacher's unconditional prediction.

    Args:
        inputs: The network, encoders, and settings of the run.
        teacher: The frozen teacher. Its few-step version is not loaded.
        teacher_guidance: Guidance scale of the teacher's predictions. With 1, guidance is applied only when sampling.
        output_weight: Weight of L_out in S, applied after S has scaled L_out to the size of L_diff.
        feature_weight: Weight of L_feat.
        scaling: The function S. "density" and "cdf" are two interpretations of SnapGen's timestep-aware scaling (see
            ``task_weight``). "sum" adds the two losses.
        scale_features: Whether to add L_feat to L_out before S is applied, instead of adding L_feat to the result of S.
        time_shift: See ``ElasticPretrain``.
        time_spread: See ``ElasticPretrain``.
        drop_text: See ``ElasticPretrain``.
        distillation_weight: Weight of the loss of Eq. 5. The default is 0 because Eq. 8 does not contain this loss.
        gradient_scaling: See ``ElasticPretrain``.
    """

    def __init__(
        self,
        inputs: StageInputs[ElasticDiT],
        teacher: Teacher,
        teacher_guidance: float = 1.0,
        output_weight: Weight = 1.0,
        feature_weight: Weight = 1.0,
        scaling: Literal["density", "cdf", "sum"] = "density",
        scale_features: bool = False,
        time_shift: TimeShift = 1.0,
        time_spread: TimeSpread = 1.0,
        drop_text: Fraction = 0.1,
        distillation_weight: Weight = 0.0,
        gradient_scaling: Literal["adaptive", "sum"] = "adaptive",
    ) -> None:
        super().__init__(inputs, time_shift, time_spread, drop_text, distillation_weight, gradient_scaling)
        require_same_channels(inputs, teacher)
        self.teacher = teacher
        self.teacher_guidance = teacher_guidance
        self.output_weight = output_weight
        self.feature_weight = feature_weight
        self.scaling = scaling
        self.scale_features = scale_features
        self.projectors = build_projectors(inputs.network.spec, teacher) if feature_weight else None

    @classmethod
    @override
    def check(cls, experiment: BaseExperiment) -> None:
        super().check(experiment)
        require_dit(experiment)

    @classmethod
    @override
    def check_data(cls, experiment: BaseExperiment, data: DataDescription) -> None:
        require_same_latents(experiment)

    @classmethod
    @override
    def uses_few_step(cls, experiment: BaseExperiment) -> bool:
        return False

    @classmethod
    @override
    def cost(cls, experiment: BaseExperiment) -> StageCost:
        assert isinstance(experiment, Experiment)
        return knowledge_distillation_cost(experiment)

    def configure_model(self) -> None:
        """Under FSDP2, shard the teacher and the projectors as well."""
        if mesh := mesh_to_shard(self, self.backbone):
            self.teacher.shard(mesh)
            if self.projectors is not None:
                shard_projectors(self.projectors, mesh)
        super().configure_model()

    def on_fit_start(self) -> None:
        """Move the teacher to the module's device."""
        self.teacher.to(self.device)

    def trained_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return the (name, parameter) pairs of the backbone and the projectors."""
        projectors = [] if self.projectors is None else list(self.projectors.named_parameters(prefix="projectors"))
        return super().trained_parameters() + projectors

    def prepare(self, batch: Mapping[str, Any], number: int) -> NoisyBatch:
        """Encode a batch, add noise, and run the teacher on the noisy latents."""
        noisy = super().prepare(batch, number)
        condition = teacher_condition(self.teacher, batch, any_visible(noisy.text))
        output = self.teacher.predict(noisy.x_t, noisy.time, condition, self.teacher_guidance)
        return noisy._replace(teacher_output=output)

    def loss(self, noisy: NoisyBatch, width: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss of Eq. 8 at one width, the prediction, and the values to log."""
        assert noisy.teacher_output is not None
        assert isinstance(self.backbone, ElasticDiT)
        prediction, features = self.backbone.forward_with_features(noisy.x_t, noisy.time, noisy.text, width=width)
        task = per_sample_loss(prediction, noisy.target)
        output = output_loss(prediction, noisy.teacher_output.velocity)
        logs = {"loss": task.mean(), "output": output.mean()}
        added, teaching = torch.zeros_like(task), output
        if self.projectors is not None:
            feature = projected_feature_loss(self.projectors, features, noisy.teacher_output)
            logs["feature"] = feature.mean()
            if self.scale_features:
                teaching = teaching + self.feature_weight * feature
            else:
                added = self.feature_weight * feature
        if self.scaling == "sum":
            scaled = (task + self.output_weight * teaching).mean()
        else:
            weight = task_weight(noisy.time, math.log(self.time_shift), self.time_spread, self.scaling)
            scaled = timestep_scaling(task, teaching, weight, self.output_weight)
        logged = {f"{name}/width_{width:g}": value.detach() for name, value in logs.items()}
        return scaled + added.mean(), prediction, logged

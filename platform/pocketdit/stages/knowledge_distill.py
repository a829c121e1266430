"""Knowledge distillation (paper Sec. 3.3, Eq. 6 to 8): elastic training under a large teacher."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.component import Component
from pocketdit.config.experiment import Training
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.inputs import Encoders
from pocketdit.losses.distillation import output_loss, task_share, timestep_scaling
from pocketdit.losses.flow_matching import per_sample_loss
from pocketdit.stages.elastic_pretrain import Draw, ElasticPretrain
from pocketdit.stages.projectors import build_projectors, projected_feature_loss, shard_projectors
from pocketdit.teachers.contract import Teacher


class KnowledgeDistill(ElasticPretrain):
    """Full network and one sampled sub-network in every step, as in pre-training, each with the teacher's loss.

    L = S(L_diff, L_out) + L_feat (Eq. 8). A sample whose text is dropped whole gets the teacher's unconditional
    prediction.

    ``teacher_guidance``: of the teacher's predictions; 1 leaves guidance to sampling.
    ``scaling``: S. "density" and "cdf" are two readings of SnapGen's timestep-aware scaling (see ``task_share``);
    "sum" adds the two losses. ``output_weight``: of the teacher's part of S, after S has brought it to the size of
    the data's. ``scale_features``: L_feat within S, added to L_out, instead of beside it.
    ``distillation_weight``: of Eq. 5 besides; 0 is our reading of Eq. 8, which does not have it.
    The other arguments are those of ``ElasticPretrain``.
    """

    def __init__(
        self,
        backbone: ElasticDiT,
        encoders: Encoders,
        optimizer: Component,
        training: Training,
        seed: int,
        teacher: Teacher,
        teacher_guidance: float = 1.0,
        output_weight: float = 1.0,
        feature_weight: float = 1.0,
        scaling: Literal["density", "cdf", "sum"] = "density",
        scale_features: bool = False,
        time_shift: float = 1.0,
        time_spread: float = 1.0,
        drop_text: float = 0.1,
        distillation_weight: float = 0.0,
        gradient_scaling: Literal["adaptive", "sum"] = "adaptive",
    ) -> None:
        super().__init__(
            backbone, encoders, optimizer, training, seed,
            time_shift, time_spread, drop_text, distillation_weight, gradient_scaling,
        )  # fmt: skip
        self.teacher = teacher
        self.teacher_guidance = teacher_guidance
        self.output_weight = output_weight
        self.feature_weight = feature_weight
        self.scaling = scaling
        self.scale_features = scale_features
        self.projectors = build_projectors(backbone.spec, teacher) if feature_weight else None

    def configure_model(self) -> None:
        if self.device_mesh is not None and not isinstance(next(self.backbone.parameters()), DTensor):
            self.teacher.shard(self.device_mesh["data_parallel"])
            if self.projectors is not None:
                shard_projectors(self.projectors, self.device_mesh["data_parallel"])
        super().configure_model()

    def on_fit_start(self) -> None:
        self.teacher.to(self.device)

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        projectors = [] if self.projectors is None else list(self.projectors.named_parameters(prefix="projectors"))
        return super().trained() + projectors

    def draw(self, batch: Mapping[str, Any], batch_idx: int) -> Draw:
        draw = super().draw(batch, batch_idx)
        condition = self.teacher.condition(visible_captions(batch["captions"], draw.text))
        return draw._replace(teacher_output=self.teacher.predict(draw.x_t, draw.time, condition, self.teacher_guidance))

    def loss(self, draw: Draw, width: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Eq. 8 of one network."""
        assert draw.teacher_output is not None
        prediction, features = self.backbone.with_features(draw.x_t, draw.time, draw.text, width=width)
        task = per_sample_loss(prediction, draw.target)
        output = output_loss(prediction, draw.teacher_output.velocity)
        logs = {"loss": task.mean(), "output": output.mean()}
        beside, teaching = torch.zeros_like(task), output
        if self.projectors is not None:
            feature = projected_feature_loss(self.projectors, features, draw.teacher_output)
            logs["feature"] = feature.mean()
            if self.scale_features:
                teaching = teaching + self.feature_weight * feature
            else:
                beside = self.feature_weight * feature
        if self.scaling == "sum":
            scaled = (task + self.output_weight * teaching).mean()
        else:
            share = task_share(draw.time, math.log(self.time_shift), self.time_spread, self.scaling)
            scaled = timestep_scaling(task, teaching, share, self.output_weight)
        logged = {f"{name}/width_{width:g}": value.detach() for name, value in logs.items()}
        return scaled + beside.mean(), prediction, logged


def visible_captions(captions: list[str], text: list[TextTokens]) -> list[str]:
    """The captions, blank where every encoder's tokens are hidden from the student."""
    seen = torch.stack([tokens.mask.any(dim=1) for tokens in text]).any(dim=0)
    return [caption if shown else "" for caption, shown in zip(captions, seen.tolist(), strict=True)]

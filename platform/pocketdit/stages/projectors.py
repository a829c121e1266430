"""Projectors phi of Eq. 7: a student's features to the size of the teacher's, one for every width."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from pocketdit.backbones.elastic import PerWidth
from pocketdit.backbones.spec import DiTSpec
from pocketdit.errors import ConfigError
from pocketdit.losses.distillation import feature_loss
from pocketdit.teachers.contract import Teacher, TeacherOutput


def build_projectors(spec: DiTSpec, teacher: Teacher) -> PerWidth:
    """A LayerNorm without parameters and a linear map for every hidden size.

    Raises ``ConfigError`` where the tokens of student and teacher are not the same.
    """
    if spec.patch_size != teacher.patch_size:
        raise ConfigError(
            f"backbone.patch_size is {spec.patch_size}, but the teacher's tokens are {teacher.patch_size} wide: "
            "their features cannot be compared; set stage.init_args.feature_weight to 0"
        )
    hidden = [spec.hidden(width) for width in spec.widths]
    return PerWidth({str(size): projector(size, teacher.feature_width) for size in hidden})


def projector(hidden: int, wanted: int) -> nn.Sequential:
    """The norm is that in front of a network's output layer: the size of a residual stream is arbitrary."""
    return nn.Sequential(nn.LayerNorm(hidden, elementwise_affine=False), nn.Linear(hidden, wanted))


def shard_projectors(projectors: PerWidth, mesh: DeviceMesh) -> None:
    """Each divided over the ranks, so that FSDP2 averages its gradient."""
    for projector in projectors.values():
        fully_shard(projector, mesh=mesh)


def projected_feature_loss(projectors: PerWidth, features: Tensor, teacher_output: TeacherOutput) -> Tensor:
    """Eq. 7, (B,). features (B, N, D) of any width.

    The teacher's features pass a LayerNorm without parameters too: single channels of a large one are in the
    thousands.
    """
    wanted = F.layer_norm(teacher_output.features, teacher_output.features.shape[-1:])
    return feature_loss(projectors.at(features.shape[-1])(features), wanted)

"""The projectors phi of Eq. 7, which map the features of each student width to the teacher's feature width."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from pocketdit.backbones.elastic import WidthSpecific
from pocketdit.backbones.spec import DiTSpec
from pocketdit.errors import ConfigError
from pocketdit.losses.distillation import feature_loss
from pocketdit.teachers.contract import Teacher, TeacherOutput


def build_projectors(spec: DiTSpec, teacher: Teacher) -> WidthSpecific:
    """Build one projector for every hidden size of the student.

    Raises:
        ConfigError: The student and the teacher have different patch sizes, so their features cannot be compared.
    """
    if spec.patch_size != teacher.patch_size:
        raise ConfigError(
            f"backbone.patch_size is {spec.patch_size}, but the teacher's patch size is {teacher.patch_size}, so the "
            "features of the student and the teacher cannot be compared; set stage.init_args.feature_weight to 0"
        )
    hidden_sizes = [spec.hidden_size(width) for width in spec.widths]
    return WidthSpecific({str(size): build_projector(size, teacher.feature_width) for size in hidden_sizes})


def build_projector(hidden: int, feature_width: int) -> nn.Sequential:
    """Build a LayerNorm without parameters, followed by a linear layer.

    The norm is the same as in a network's output layer. It is needed because the scale of a residual stream is
    arbitrary.
    """
    return nn.Sequential(nn.LayerNorm(hidden, elementwise_affine=False), nn.Linear(hidden, feature_width))


def shard_projectors(projectors: WidthSpecific, mesh: DeviceMesh) -> None:
    """Shard each projector across ranks, so that FSDP2 averages its gradient."""
    for module in projectors.values():
        fully_shard(module, mesh=mesh)


def projected_feature_loss(projectors: WidthSpecific, features: Tensor, teacher_output: TeacherOutput) -> Tensor:
    """Compute Eq. 7 for every sample.

    The teacher's features also pass through a LayerNorm without parameters, because individual channels of a large
    teacher reach values in the thousands.

    Args:
        projectors: One projector per hidden size.
        features: The student's features at any width, (B, N, D).
        teacher_output: The teacher's output, which contains its features, (B, N, F).

    Returns:
        The loss, (B,).
    """
    target = F.layer_norm(teacher_output.features, teacher_output.features.shape[-1:])
    return feature_loss(projectors.for_hidden_size(features.shape[-1])(features), target)

"""Check that a teacher and its student use the same latents."""

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.errors import ConfigError
from pocketdit.stages.contract import StageInputs
from pocketdit.teachers.contract import Teacher


def require_same_latents(inputs: StageInputs[ElasticDiT], teacher: Teacher) -> None:
    """Raise ``ConfigError`` if the teacher was not trained on the student's latents."""
    channels = inputs.network.spec.latent_channels
    if teacher.channels != channels:
        raise ConfigError(
            f"backbone.latent_channels is {channels}, but the teacher's latents have {teacher.channels} channels; "
            "use a teacher that was trained with the same autoencoder"
        )
    teacher.check_latents(inputs.autoencoder)

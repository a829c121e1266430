"""Values that the cost estimates of all stages read from a configuration."""

from typing import Any

from pocketdit.config.component import arguments
from pocketdit.config.declared import latent_sides
from pocketdit.config.experiment import BaseExperiment, EncodedExperiment, Experiment
from pocketdit.config.importing import import_class


def batch_size(experiment: BaseExperiment) -> int:
    """Return the number of samples per process in a batch."""
    return int(experiment.data.init_args.get("batch_size", 1))


def image_side(experiment: BaseExperiment) -> int:
    """Return the side length of the training images in pixels."""
    default = experiment.sampling.size[0] if isinstance(experiment, Experiment) else 128
    return int(experiment.data.init_args.get("base_size", default))


def latent_grid(experiment: EncodedExperiment) -> tuple[int, int]:
    """Return the height and width of the training latents."""
    side = image_side(experiment)
    return latent_sides(experiment.autoencoder, (side, side))


def image_tokens(experiment: Experiment) -> int:
    """Return the number of image tokens of a training sample."""
    height, width = latent_grid(experiment)
    return height * width // experiment.backbone.patch_size**2


def stage_settings(experiment: BaseExperiment) -> dict[str, Any]:
    """Return the settings of the stage, including defaults."""
    named, _ = arguments(import_class(experiment.stage.class_path))
    defaults = {name: value.default for name, value in named.items() if value.default is not value.empty}
    return defaults | experiment.stage.init_args

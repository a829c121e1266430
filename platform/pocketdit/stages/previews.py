"""Preview images for stages that train a backbone."""

from contextlib import AbstractContextManager
from dataclasses import replace

from lightning.pytorch import LightningModule

from pocketdit.backbones.per_width import Network
from pocketdit.config.experiment import Sampling
from pocketdit.encoders.inputs import Encoders
from pocketdit.sampling import sample
from pocketdit.stages.contract import Preview
from pocketdit.training.precision import autocast

# A dozen steps are enough to show progress. A preview during training should not take minutes.
EARLY_STEPS = 12


def sampled_preview(
    module: LightningModule,
    ema_network: AbstractContextManager[Network],
    encoders: Encoders,
    sampling: Sampling | None,
    final: bool,
) -> Preview | None:
    """Sample images for the configured prompts at every width, with the EMA weights and in the run's precision.

    Args:
        module: The stage, whose precision is used.
        ema_network: Context manager that provides the network with its EMA weights.
        encoders: The frozen encoders.
        sampling: The run's sampling settings. If None, no preview is sampled.
        final: Whether to take all sampling steps instead of at most a dozen.
    """
    if sampling is None:
        return None
    sampling = sampling if final else replace(sampling, steps=min(sampling.steps, EARLY_STEPS))
    with autocast(module), ema_network as network:
        rows = {
            f"{width:g}x": sample(network, encoders, sampling.prompts, width, sampling)
            for width in sorted(network.spec.widths)
        }
    return Preview(rows, sampling.prompts)

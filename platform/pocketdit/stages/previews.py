"""Preview images of a stage that trains a backbone."""

from contextlib import AbstractContextManager
from dataclasses import replace

from lightning.pytorch import LightningModule

from pocketdit.backbones.per_width import Network
from pocketdit.config.experiment import Sampling
from pocketdit.encoders.inputs import Encoders
from pocketdit.sampling import sample
from pocketdit.stages.contract import Preview
from pocketdit.training.precision import autocast

# A dozen steps show what has been learned; a preview during training should not take minutes.
EARLY_STEPS = 12


def sampled_preview(
    module: LightningModule,
    ema_network: AbstractContextManager[Network],
    encoders: Encoders,
    sampling: Sampling | None,
    final: bool,
) -> Preview | None:
    """Sample the configured prompts from the EMA weights at every width, in the run's precision.

    Args:
        module: The stage, for its device and precision.
        ema_network: Context in which the network has its EMA weights.
        encoders: The frozen encoders.
        sampling: The run's sampling settings; without them there is no preview.
        final: Whether to take all sampling steps.
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

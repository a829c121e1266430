"""Quantities computed from a configuration without training, for objectives of kind ``computed`` and constraints.

The sweep file names a class and its arguments. An instance maps an ``Experiment`` to a float. ``width`` selects a
sub-network of the supernet; 1.0 is the full network.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pocketdit.backbones.spec import FULL_WIDTH, BackboneSpec
from pocketdit.config.experiment import Experiment

if TYPE_CHECKING:
    from pocketdit.export.common.census import Census


@dataclass(frozen=True)
class Parameters:
    """Number of parameters of the standalone network at one width, in millions.

    Args:
        width: Width of the sub-network.
    """

    width: float = FULL_WIDTH

    def __call__(self, experiment: Experiment) -> float:
        """Count the parameters."""
        from pocketdit.training.cost import parameters_by_width

        return parameters_by_width(experiment.backbone.standalone(self.width))[FULL_WIDTH] / 1e6


@dataclass(frozen=True)
class ForwardFlops:
    """GFLOPs of one forward pass for one image.

    Counts the matrix products of the training form on the meta device; a multiply-add counts as two operations. Masked
    attention entries are included only where the implementation computes them. The result measures arithmetic, not
    latency.

    Args:
        width: Width of the sub-network.
        size: Height and width of the image in pixels; defaults to the experiment's.
    """

    width: float = FULL_WIDTH
    size: tuple[int, int] | None = None

    def __call__(self, experiment: Experiment) -> float:
        """Count the operations."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from pocketdit.backbones.build import build_network
        from pocketdit.config.declared import text_lengths
        from pocketdit.training.cost import network_inputs

        spec = experiment.backbone.standalone(self.width)
        with torch.device("meta"):
            network = build_network(spec)
        sides = _latent_sides(experiment, self.size)
        inputs = network_inputs(spec, 1, sides, "meta", text_lengths(experiment.text_encoders))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(*inputs)
        return float(counter.get_total_flops()) / 1e9


@dataclass(frozen=True)
class PredictedLatency:
    """Predicted latency of one sampling step on a device, in milliseconds.

    ``pocketdit.latency`` predicts the latency from the census of the mobile form, without training or export.

    Args:
        device: Name of the device in ``pocketdit.latency.devices``.
        width: Width of the sub-network.
        size: Height and width of the image in pixels; defaults to the experiment's.
    """

    device: str = "iphone16promax"
    width: float = FULL_WIDTH
    size: tuple[int, int] | None = None

    def __call__(self, experiment: Experiment) -> float:
        """Predict the latency."""
        from pocketdit.config.declared import text_lengths
        from pocketdit.latency.devices import find_device
        from pocketdit.latency.predict import predict

        spec = experiment.backbone.standalone(self.width)
        tokens = sum(text_lengths(experiment.text_encoders)) + 1
        census = _census(spec, _latent_sides(experiment, self.size), tokens)
        return predict(census, find_device(self.device)).milliseconds


def _latent_sides(experiment: Experiment, size: tuple[int, int] | None) -> tuple[int, int]:
    from pocketdit.config.declared import latent_sides

    return latent_sides(experiment.autoencoder, size or experiment.sampling.size)


@cache
def _census(spec: BackboneSpec, sides: tuple[int, int], tokens: int) -> "Census":
    """Record a network's census, which takes most of a second and is therefore cached."""
    from pocketdit.latency.traced_census import trace_census

    return trace_census(spec, FULL_WIDTH, sides, tokens)

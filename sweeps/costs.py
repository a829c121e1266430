"""Figures of a configuration that need no training: objectives and bounds of kind ``computed``.

Each is built from the YAML and called with an ``Experiment``. ``width``: of the supernet, 1.0 the full network.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from pocketdit.backbones.spec import FULL, DiTSpec
from pocketdit.config.experiment import Experiment

if TYPE_CHECKING:
    from pocketdit.export.census import Census


@dataclass(frozen=True)
class Parameters:
    """Millions of parameters of a width's own network."""

    width: float = FULL

    def __call__(self, experiment: Experiment) -> float:
        from pocketdit.running.cost_estimate import parameters_by_width

        return parameters_by_width(_of_width(experiment.backbone, self.width))[FULL] / 1e6


@dataclass(frozen=True)
class ForwardFlops:
    """GFLOP of one forward pass of one picture, counted from the graph on the meta device: arithmetic, not latency.

    ``size``: height and width in pixels, the experiment's own where not given. Every product of two matrices that
    the training form computes is in it, a multiply-add as two; masked-out entries only where they are computed.
    """

    width: float = FULL
    size: tuple[int, int] | None = None

    def __call__(self, experiment: Experiment) -> float:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from pocketdit.backbones.dit import ElasticDiT
        from pocketdit.running.cost_estimate import network_inputs

        spec = _of_width(experiment.backbone, self.width)
        with torch.device("meta"):
            network = ElasticDiT(spec)
        inputs = network_inputs(spec, 1, latent_sides(experiment, self.size), "meta", text_tokens(experiment))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(*inputs)
        return float(counter.get_total_flops()) / 1e9


def latent_sides(experiment: Experiment, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the latent of a picture of ``size`` pixels."""
    height, width = size or experiment.sampling.size
    return height // 8, width // 8


def text_tokens(experiment: Experiment) -> list[int]:
    """Tokens of every text encoder."""
    return [int(encoder.init_args.get("max_tokens", 77)) for encoder in experiment.text_encoders]


def _of_width(spec: DiTSpec, width: float) -> DiTSpec:
    """The network of a width as one of its own. ``ValueError`` where the supernet has no such width."""
    return replace(spec, width=spec.hidden(width), widths=(FULL,))


@dataclass(frozen=True)
class PredictedLatency:
    """Predicted milliseconds of one denoising step on a device (``pocketdit.latency``), from the census of the
    mobile form, which is recorded without training or exporting anything. ``device``: by its name there."""

    device: str = "iphone16promax"
    width: float = FULL
    size: tuple[int, int] | None = None

    def __call__(self, experiment: Experiment) -> float:
        from pocketdit.latency.coefficients import predict
        from pocketdit.latency.devices import find_device

        spec = _of_width(experiment.backbone, self.width)
        tokens = sum(text_tokens(experiment)) + 1
        return predict(
            _census(spec, latent_sides(experiment, self.size), tokens), find_device(self.device)
        ).milliseconds


@cache
def _census(spec: DiTSpec, sides: tuple[int, int], tokens: int) -> "Census":
    """Recorded once for every network: it takes most of a second."""
    from pocketdit.latency.traced import traced

    return traced(spec, FULL, sides, tokens)

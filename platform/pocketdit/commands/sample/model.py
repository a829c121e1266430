"""The loaded weights of a run, which sample images at any of its widths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pocketdit.artifacts.decoder import with_decoder
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.per_width import Network
from pocketdit.config.experiment import Experiment, Sampling
from pocketdit.encoders.inputs import Encoders
from pocketdit.files import sha256_of
from pocketdit.images import require_finite, to_uint8
from pocketdit.running.assemble import build_encoders
from pocketdit.sampling import sample
from pocketdit.training.precision import inference_autocast, inference_dtype


@dataclass(frozen=True)
class Model:
    """A network with its encoders.

    Attributes:
        name: Name of the run.
        weights: Names of the run and of its tiny decoder, with hashes of their weights.
        experiment: Configuration of the run.
        network: The network, on ``device``.
        encoders: The encoders, on ``device``.
        device: Name of the device.
    """

    name: str
    weights: dict[str, str]
    experiment: Experiment
    network: Network
    encoders: Encoders
    device: str

    def sample(self, prompts: Sequence[str], width: float, sampling: Sampling) -> Tensor:
        """Sample one image per prompt as uint8, (len(prompts), 3, H, W).

        Raises:
            RunError: An image contains NaN or infinity.
        """
        with inference_autocast(self.experiment.training.precision, self.device):
            images = sample(self.network, self.encoders, prompts, width, sampling)
        return to_uint8(require_finite(images, f"{self.name} at width {width:g}"))

    def describe(self, width: float, sampling: Sampling) -> dict[str, Any]:
        """Return everything that determines the image of a prompt, as values that JSON can represent."""
        return {
            **self.weights,
            "width": width,
            "steps": sampling.steps,
            "sampler": sampling.sampler,
            "guidance": sampling.guidance,
            "time_shift": sampling.time_shift,
            "size": list(sampling.size),
            "seed": sampling.seed,
            "dtype": str(inference_dtype(self.experiment.training.precision, self.device)).removeprefix("torch."),
        }


def load_model(folder: RunFolder, experiment: Experiment, decoder: RunFolder | None) -> Model:
    """Load the weights of a run and its encoders, on a GPU if there is one.

    Args:
        folder: The run.
        experiment: Configuration of the run.
        decoder: Run of the tiny decoder to use, if any.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, encoders = load_network(folder, device), build_encoders(experiment)
    weights = {"run": folder.name, "weights_sha256": sha256_of(folder.weights)}
    if decoder is not None:
        encoders = with_decoder(encoders, experiment, decoder)
        weights |= {"decoder": decoder.name, "decoder_sha256": sha256_of(decoder.weights)}
    encoders.to(torch.device(device))
    return Model(folder.name, weights, experiment, network, encoders, device)

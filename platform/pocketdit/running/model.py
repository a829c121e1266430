"""A run's loaded network and encoders, which sample images at any of the run's widths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    weights: dict[str, Any]
    experiment: Experiment
    network: Network
    encoders: Encoders
    device: str

    def sample(
        self,
        prompts: Sequence[str],
        width: float,
        sampling: Sampling,
        on_step: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Sample one image per prompt as uint8, (len(prompts), 3, H, W). See ``pocketdit.sampling.sample``.

        Raises:
            RunError: An image contains NaN or infinity.
        """
        with inference_autocast(self.experiment.training.precision, self.device):
            images = sample(self.network, self.encoders, prompts, width, sampling, on_step=on_step)
        return to_uint8(require_finite(images, f"{self.name} at width {width:g}"))

    def describe(self, width: float, sampling: Sampling) -> dict[str, Any]:
        """Return everything that determines a prompt's image, as values that JSON can represent."""
        noise = {} if sampling.noise == "torch" else {"noise": sampling.noise}
        return {
            **self.weights,
            "width": width,
            "steps": sampling.steps,
            "sampler": sampling.sampler,
            "guidance": sampling.guidance,
            "time_shift": sampling.time_shift,
            "size": list(sampling.size),
            "seed": sampling.seed,
            **noise,
            "dtype": str(inference_dtype(self.experiment.training.precision, self.device)).removeprefix("torch."),
        }

    def with_decoder(self, decoder: RunFolder) -> "Model":
        """Return a copy of the model that decodes images with the tiny decoder of another run."""
        encoders = with_decoder(self.encoders, self.experiment, decoder).to(torch.device(self.device))
        weights = {**self.weights, "decoder": decoder.name, "decoder_sha256": sha256_of(decoder.weights)}
        return replace(self, encoders=encoders, weights=weights)


def sampling_device() -> str:
    """Return the name of the device on which images are sampled: a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(folder: RunFolder, experiment: Experiment, lora_scale: float = 1.0, device: str | None = None) -> Model:
    """Load the network and the encoders of a run.

    Args:
        folder: The run folder.
        experiment: Configuration of the run.
        lora_scale: Strength of the run's LoRA.
        device: Name of the device. None selects a GPU if there is one.
    """
    device = device or sampling_device()
    network, encoders = load_network(folder, device, lora_scale), build_encoders(experiment).to(torch.device(device))
    weights: dict[str, Any] = {"run": folder.name, "weights_sha256": sha256_of(folder.weights)}
    if lora_scale != 1:
        weights["lora_scale"] = lora_scale
    return Model(folder.name, weights, experiment, network, encoders, device)

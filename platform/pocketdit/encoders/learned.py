"""The small autoencoder that PocketDiT trains, used here with frozen weights."""

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import override

from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.autoencoders.spec import AutoencoderSpec
from pocketdit.encoders.contract import FrozenModule
from pocketdit.errors import RunError

ATTRIBUTION = (
    "Autoencoder trained on pictograms by OpenMoji (https://openmoji.org), the open-source emoji and icon project. "
    "License: CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/)"
)
SHIPPED = files("pocketdit.encoders") / "weights" / "pictograms.safetensors"


class LearnedAutoencoder(FrozenModule):
    """An autoencoder that was trained with ``experiments/emoji/autoencoder.yaml``.

    The shipped weights were trained on pictograms, compositions of pictograms, and a few photographs. Their latents
    have a mean of 0 and a standard deviation of 1 in every channel.

    Args:
        weights: The ``weights.safetensors`` of a run that trained an autoencoder; defaults to the shipped weights.
        channels: ``architecture.channels`` of that run.
        blocks: ``architecture.blocks`` of that run.
        latent_channels: ``architecture.latent_channels`` of that run.

    Raises:
        RunError: The file cannot be read, or its weights do not match the architecture.
    """

    factor: int = 8
    weight_sources = ("weights",)

    def __init__(
        self,
        weights: str | None = None,
        channels: tuple[int, ...] = (32, 64, 96),
        blocks: tuple[int, ...] = (1, 1, 2),
        latent_channels: int = 16,
    ) -> None:
        super().__init__()
        spec = AutoencoderSpec(channels, blocks, latent_channels)
        if spec.factor != self.factor:
            raise RunError(
                f"autoencoder: channels must have 3 levels for a factor of {self.factor}, not {len(channels)}"
            )
        self.channels = latent_channels
        self.network = ConvAutoencoder(spec)
        load_into(self.network, weights)
        self.freeze()

    @classmethod
    @override
    def attribution(cls, init_args: Mapping[str, Any]) -> str | None:
        return None if init_args.get("weights") else ATTRIBUTION

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to latents (B, C, H/8, W/8). H and W must be multiples of 8."""
        with torch.autocast(images.device.type, enabled=False):
            return self.network.encode(images.float())

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to float32 images (B, 3, 8h, 8w), clamped to [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.network.decode(latents.float()).clamp(-1, 1)


def load_into(network: ConvAutoencoder, path: str | None) -> None:
    """Load weights in float32 from a file, or the shipped weights if ``path`` is None.

    Raises:
        RunError: The file cannot be read, or its weights do not match the network.
    """
    try:
        if path is None:
            with as_file(SHIPPED) as shipped:
                tensors = load_file(shipped)
        else:
            tensors = load_file(Path(path).expanduser())
    except (OSError, SafetensorError) as error:
        raise RunError(f"autoencoder.init_args.weights: {path or SHIPPED} cannot be read ({error})") from error
    try:
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise RunError(
            f"autoencoder.init_args.weights: {path or SHIPPED} does not match the architecture: {reason}"
        ) from error

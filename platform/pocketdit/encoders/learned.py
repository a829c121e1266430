"""The small autoencoder that PocketDiT trains itself, with its weights frozen."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.autoencoders.spec import AutoencoderSpec
from pocketdit.encoders.contract import FrozenModule
from pocketdit.errors import RunError


class LearnedAutoencoder(FrozenModule):
    """An autoencoder that a run such as that of ``experiments/emoji/autoencoder.yaml`` has trained.

    On the training images, its latents have a mean of 0 and a standard deviation of 1 in every channel.

    Args:
        weights: The ``weights.safetensors`` of a run that trained an autoencoder.
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
        weights: str,
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

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to latents (B, C, H/8, W/8). H and W must be multiples of 8."""
        with torch.autocast(images.device.type, enabled=False):
            return self.network.encode(images.float())

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to float32 images (B, 3, 8h, 8w), clamped to [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.network.decode(latents.float()).clamp(-1, 1)


def load_into(network: ConvAutoencoder, path: str) -> None:
    """Load weights in float32 from a file.

    Raises:
        RunError: The file cannot be read, or its weights do not match the network.
    """
    try:
        tensors = load_file(Path(path).expanduser())
    except (OSError, SafetensorError) as error:
        raise RunError(f"autoencoder.init_args.weights: {path} cannot be read ({error})") from error
    try:
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise RunError(f"autoencoder.init_args.weights: {path} is not such an autoencoder: {reason}") from error

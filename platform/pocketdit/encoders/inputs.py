"""Conversion of images and captions to the backbone's inputs, which are latents and text tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pocketdit.encoders.conditioning import encode_text
from pocketdit.encoders.contract import Autoencoder, TextEncoder, TextTokens
from pocketdit.images import from_uint8


@dataclass
class Encoders:
    """The frozen autoencoder and text encoders of a run.

    This is not an ``nn.Module``, because checkpoints of the trained network would then contain gigabytes of published
    weights.

    Attributes:
        autoencoder: The autoencoder.
        text: Text encoders in the order of the configuration.
    """

    autoencoder: Autoencoder
    text: Sequence[TextEncoder]

    def to(self, device: torch.device) -> "Encoders":
        """Move all encoders to a device in place."""
        for part in (self.autoencoder, *self.text):
            assert isinstance(part, nn.Module)
            part.to(device)
        return self

    @torch.no_grad()
    def latents(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the normalized latents of a batch, encoding its images if it has no latents.

        Args:
            batch: A batch with "latents" (B, C, h, w) or with uint8 "images" (B, 3, H, W).

        Returns:
            Latents (B, C, h, w), float32.
        """
        if "latents" in batch:
            latents: Tensor = batch["latents"]
            return latents.float()
        return self.autoencoder.encode(from_uint8(batch["images"])).float()

    def latent_shape(self, batch: Mapping[str, Any]) -> torch.Size:
        """Return the shape (B, C, h, w) of ``latents(batch)`` without encoding."""
        if "latents" in batch:
            latents: Tensor = batch["latents"]
            return latents.shape
        count, _, height, width = batch["images"].shape
        factor = self.autoencoder.factor
        return torch.Size((count, self.autoencoder.channels, height // factor, width // factor))

    @torch.no_grad()
    def tokens(self, captions: Sequence[str]) -> list[TextTokens]:
        """Encode captions to one ``TextTokens`` per encoder."""
        return encode_text(self.text, captions)

"""From a batch of pictures and captions to what the backbone trains on: latents and text tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pocketdit.encoders.conditioning import encode_text
from pocketdit.encoders.contract import Autoencoder, TextEncoder, TextTokens


@dataclass
class Encoders:
    """The frozen autoencoder and text encoders.

    Not a module: a checkpoint of the trained network must not hold gigabytes of published weights.
    """

    autoencoder: Autoencoder
    text: Sequence[TextEncoder]

    def to(self, device: torch.device) -> "Encoders":
        for part in (self.autoencoder, *self.text):
            assert isinstance(part, nn.Module)
            part.to(device)
        return self

    @torch.no_grad()
    def latents(self, batch: Mapping[str, Any]) -> Tensor:
        """Normalised latents (B, C, h, w) of a batch that holds "images" (uint8, (B, 3, H, W)) or "latents"."""
        if "latents" in batch:
            return batch["latents"].float()
        return self.autoencoder.encode(batch["images"].float() / 127.5 - 1).float()

    def latent_shape(self, batch: Mapping[str, Any]) -> torch.Size:
        """(B, C, h, w) of what ``latents`` would give, without encoding."""
        if "latents" in batch:
            return batch["latents"].shape
        count, _, height, width = batch["images"].shape
        factor = self.autoencoder.factor
        return torch.Size((count, self.autoencoder.channels, height // factor, width // factor))

    @torch.no_grad()
    def tokens(self, captions: Sequence[str]) -> list[TextTokens]:
        """One ``TextTokens`` an encoder."""
        return encode_text(self.text, captions)

"""Converts images and captions to the backbone's inputs: latents and text tokens."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from pocketdit.encoders.conditioning import encode_text
from pocketdit.encoders.contract import Autoencoder, TextEncoder, TextTokens
from pocketdit.images import from_uint8

T = TypeVar("T")


class Deferred(Generic[T]):
    """An object that is created when it is first needed.

    Args:
        create: Function that creates the object.
    """

    def __init__(self, create: Callable[[], T]) -> None:
        self._create = create
        self.is_created = False

    @cached_property
    def value(self) -> T:
        """The object, which is created on the first access."""
        created = self._create()
        self.is_created = True
        return created


class Encoders:
    """The frozen autoencoder and text encoders of a run.

    This is not an ``nn.Module``, because checkpoints of the trained network would then contain gigabytes of published
    weights. Encoders whose results the data set stores may be deferred, so that only sampling loads them.

    Args:
        autoencoder: The autoencoder, or None in a run that trains one.
        text: Text encoders in the order of the configuration.
    """

    def __init__(
        self,
        autoencoder: Autoencoder | Deferred[Autoencoder] | None,
        text: Sequence[TextEncoder] | Deferred[Sequence[TextEncoder]],
    ) -> None:
        self._autoencoder = (
            autoencoder if autoencoder is None or isinstance(autoencoder, Deferred) else _created(autoencoder)
        )
        self._text = text if isinstance(text, Deferred) else _created(text)
        self._device: torch.device | None = None

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder, which is loaded if necessary.

        Raises:
            LookupError: The run has no frozen autoencoder.
        """
        if self._autoencoder is None:
            raise LookupError("this run has no frozen autoencoder")
        return self._load(self._autoencoder)

    @property
    def text(self) -> Sequence[TextEncoder]:
        """The text encoders, which are loaded if necessary."""
        return self._load(self._text)

    @property
    def loaded_text(self) -> Sequence[TextEncoder]:
        """The text encoders that have been loaded: either all of them or none."""
        return self._text.value if self._text.is_created else ()

    def to(self, device: torch.device) -> Self:
        """Move all encoders to a device in place. Deferred encoders are moved when they are loaded."""
        self._device = device
        for part in (self._autoencoder, self._text):
            if part is not None and part.is_created:
                _move(part.value, device)
        return self

    def _load(self, part: Deferred[T]) -> T:
        if not part.is_created and self._device is not None:
            _move(part.value, self._device)
        return part.value

    @torch.no_grad()
    def latents(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the normalized latents of a batch. If the batch contains no latents, its images are encoded.

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

    def text_of(self, batch: Mapping[str, Any]) -> list[TextTokens]:
        """Return one ``TextTokens`` per encoder for a batch. If the batch contains no tokens, its captions are encoded.

        Args:
            batch: A batch with "text" (one ``TextTokens`` of any dtype per encoder) or with "captions" (B strings).
        """
        if "text" in batch:
            return [tokens._replace(embeddings=tokens.embeddings.float()) for tokens in batch["text"]]
        return self.tokens(batch["captions"])

    @torch.no_grad()
    def tokens(self, captions: Sequence[str]) -> list[TextTokens]:
        """Encode captions to one ``TextTokens`` per encoder."""
        return encode_text(self.text, captions)


def _created(value: T) -> Deferred[T]:
    deferred = Deferred(lambda: value)
    _ = deferred.value
    return deferred


def _move(encoders: object, device: torch.device) -> None:
    for encoder in encoders if isinstance(encoders, Sequence) else (encoders,):
        assert isinstance(encoder, nn.Module)
        encoder.to(device)

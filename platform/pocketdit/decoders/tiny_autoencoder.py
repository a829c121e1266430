"""An autoencoder whose decoder is replaced by a tiny decoder."""

from torch import Tensor

from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.contract import Autoencoder, FrozenModule


class TinyDecoderAutoencoder(FrozenModule):
    """An ``Autoencoder`` that encodes with one autoencoder and decodes with a tiny decoder.

    Args:
        autoencoder: The autoencoder that encodes.
        decoder: A tiny decoder that was trained on this autoencoder's latents.
    """

    def __init__(self, autoencoder: Autoencoder, decoder: TinyDecoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.decoder = decoder
        self.channels, self.factor = autoencoder.channels, autoencoder.factor
        self.freeze()

    def encode(self, images: Tensor) -> Tensor:
        """Encode with the autoencoder. See ``Autoencoder.encode``."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode with the tiny decoder. See ``Autoencoder.decode``."""
        return self.decoder.decode(latents)

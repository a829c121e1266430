"""An autoencoder whose pictures a tiny decoder makes."""

from torch import Tensor

from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.contract import Autoencoder, Frozen


class WithTinyDecoder(Frozen):
    """An ``Autoencoder``: encodes as ``autoencoder`` does, decodes with the ``decoder`` of its latents."""

    def __init__(self, autoencoder: Autoencoder, decoder: TinyDecoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.decoder = decoder
        self.channels, self.factor = autoencoder.channels, autoencoder.factor
        self.freeze()

    def encode(self, images: Tensor) -> Tensor:
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder.decode(latents)

"""The tiny decoder (paper Sec. 4.1, after SnapGen): latents to images by separable convolutions, without attention.

Neither has it normalisation. GroupNorm is two passes over a whole picture for its statistics, which overflow fp16
and make a pixel depend on the picture's far end; residual blocks that begin as the identity train without it, and
the same weights then give the same pixels at any size. Every operation (convolution, ReLU, nearest enlargement, pixel
shuffle) exists in Core ML and LiteRT as it is.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketdit.decoders.spec import TinyDecoderSpec


def depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


class Block(nn.Module):
    """x + separable(relu(separable(relu(x)))); at first the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial_1, self.mix_1 = depthwise(channels), nn.Conv2d(channels, channels, 1)
        self.spatial_2, self.mix_2 = depthwise(channels), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.mix_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix_1(self.spatial_1(functional.relu(x)))
        return x + self.mix_2(self.spatial_2(functional.relu(y)))


class Enlarge(nn.Module):
    """Twice the side, other channels: a separable convolution, pointwise first, where there are fewer pixels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.mix, self.spatial = nn.Conv2d(before, after, 1), depthwise(after)

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial(functional.interpolate(self.mix(x), scale_factor=2.0, mode="nearest"))


class TinyDecoder(nn.Module):
    """The decoding half of an ``Autoencoder`` (encoders/contract.py). Shape letters as there."""

    def __init__(self, spec: TinyDecoderSpec) -> None:
        super().__init__()
        self.spec = spec
        first, last = spec.channels[0], spec.channels[-1]
        layers: list[nn.Module] = [nn.Conv2d(spec.latent_channels, first, 3, padding=1)]
        for level, (channels, blocks) in enumerate(zip(spec.channels, spec.blocks, strict=True)):
            if level:
                layers.append(Enlarge(spec.channels[level - 1], channels))
            layers += [Block(channels) for _ in range(blocks)]
        layers += [nn.ReLU(), nn.Conv2d(last, 3 * spec.shuffle**2, 3, padding=1)]
        if spec.shuffle > 1:
            layers.append(nn.PixelShuffle(spec.shuffle))
        self.layers = nn.Sequential(*layers)
        # Twice as fast on a CPU: its depthwise convolutions read channels side by side.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> images (B, 3, H, W), not clamped."""
        images: Tensor = self.layers(latents)
        return images

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> images (B, 3, H, W), float32, clamped to [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            images: Tensor = self(latents.float())
        return images.clamp(-1, 1)

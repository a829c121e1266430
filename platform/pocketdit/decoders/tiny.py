"""The tiny decoder (paper Sec. 4.1, after SnapGen): latents to images with separable convolutions, without attention.

It has no normalization. GroupNorm needs two passes over a whole image for its statistics, which overflow fp16 and make
a pixel depend on the far end of the image. Residual blocks that are initialized to the identity train without it, and
the same weights then give the same pixels at every image size. Every operation (convolution, ReLU, nearest-neighbor
upsampling, pixel shuffle) exists in Core ML and LiteRT.

Shape letters: B batch, C latent channels, h x w latent sides, H x W image sides, c channels of a level.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketdit.decoders.spec import TinyDecoderSpec


def depthwise(channels: int) -> nn.Conv2d:
    """Return a 3x3 depthwise convolution."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


class SeparableBlock(nn.Module):
    """Residual block x + separable(relu(separable(relu(x)))), initialized to the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial_1, self.mix_1 = depthwise(channels), nn.Conv2d(channels, channels, 1)
        self.spatial_2, self.mix_2 = depthwise(channels), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.mix_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c, h, w) to (B, c, h, w)."""
        y = self.mix_1(self.spatial_1(functional.relu(x)))
        return x + self.mix_2(self.spatial_2(functional.relu(y)))


class SeparableUpsample(nn.Module):
    """Doubles the sides and changes the channels with a separable convolution.

    The pointwise convolution comes first, before the upsampling, where there are fewer pixels.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.mix, self.spatial = nn.Conv2d(before, after, 1), depthwise(after)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, h, w) to (B, after, 2h, 2w)."""
        return self.spatial(functional.interpolate(self.mix(x), scale_factor=2.0, mode="nearest"))


class TinyDecoder(nn.Module):
    """The decoding half of an ``Autoencoder`` (see ``encoders/contract.py``)."""

    def __init__(self, spec: TinyDecoderSpec) -> None:
        super().__init__()
        self.spec = spec
        first, last = spec.channels[0], spec.channels[-1]
        layers: list[nn.Module] = [nn.Conv2d(spec.latent_channels, first, 3, padding=1)]
        for level, (channels, blocks) in enumerate(zip(spec.channels, spec.blocks, strict=True)):
            if level:
                layers.append(SeparableUpsample(spec.channels[level - 1], channels))
            layers += [SeparableBlock(channels) for _ in range(blocks)]
        layers += [nn.ReLU(), nn.Conv2d(last, 3 * spec.pixel_shuffle**2, 3, padding=1)]
        if spec.pixel_shuffle > 1:
            layers.append(nn.PixelShuffle(spec.pixel_shuffle))
        self.layers = nn.Sequential(*layers)
        # This is twice as fast on a CPU, where depthwise convolutions read the channels of a pixel together.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents (B, C, h, w) to images (B, 3, H, W) that are not clamped."""
        images: Tensor = self.layers(latents)
        return images

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to images (B, 3, H, W), float32, clamped to [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            images: Tensor = self(latents.float())
        return images.clamp(-1, 1)

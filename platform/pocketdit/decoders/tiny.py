"""A tiny decoder from latents to images, with separable convolutions and no attention (paper Sec. 4.1, after SnapGen).

The decoder has no normalization. GroupNorm needs two passes over the whole image to compute its statistics, which can
overflow in fp16 and make every pixel depend on distant parts of the image. Residual blocks that are initialized to the
identity train without normalization, and the same weights then produce the same pixels at every image size. Core ML and
LiteRT support every operation of the decoder (convolution, ReLU, nearest-neighbor upsampling, and pixel shuffle).

Shape letters: B = batch, C = latent channels, h x w = latent sides, H x W = image sides, c = channels of a level.
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
        output: Tensor = x + self.mix_2(self.spatial_2(functional.relu(y)))
        return output


class SeparableUpsample(nn.Module):
    """Doubles both sides and changes the number of channels with a separable convolution.

    The pointwise convolution runs before the upsampling, when there are fewer pixels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix, self.spatial = nn.Conv2d(in_channels, out_channels, 1), depthwise(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, 2h, 2w)."""
        output: Tensor = self.spatial(functional.interpolate(self.mix(x), scale_factor=2.0, mode="nearest"))
        return output


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
        # Channels-last is twice as fast on a CPU, where depthwise convolutions read all channels of a pixel together.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not annotate this overload

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents (B, C, h, w) to unclamped images (B, 3, H, W)."""
        images: Tensor = self.layers(latents)
        return images

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to float32 images (B, 3, H, W), clamped to [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            images: Tensor = self(latents.float())
        return images.clamp(-1, 1)

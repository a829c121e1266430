"""A discriminator that distinguishes real from decoded images patch by patch. It is used only in training."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Sequential):
    """PatchGAN discriminator (Isola et al. 2017) that scores patches of 38x38 pixels.

    It maps images (B, 3, H, W) to scores (B, 1, H/8, W/8). It uses spectral normalization (Miyato et al. 2018) instead
    of batch normalization because batches are small.

    Args:
        width: Number of channels in the first layer. The next two layers have twice and four times as many.
    """

    def __init__(self, width: int = 32) -> None:
        widths = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        super().__init__(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

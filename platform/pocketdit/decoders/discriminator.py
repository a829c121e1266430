"""Tells real pictures from decoded ones, patch by patch; used in training only."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Sequential):
    """Images (B, 3, H, W) -> scores (B, 1, H/8, W/8), each of a patch of 38 pixels (PatchGAN, Isola et al. 2017).

    Spectral normalisation (Miyato et al. 2018) in place of batch statistics: batches here are small.
    """

    def __init__(self, width: int = 32) -> None:
        widths = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        super().__init__(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = super().forward(images)
        return scores

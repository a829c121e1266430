"""A discriminator that distinguishes real from decoded images patch by patch. It is used only in training."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Sequential):
    """PatchGAN discriminator (Isola et al. 2017) with a score for every patch of 38x38 pixels.

    It uses spectral normalization (Miyato et al. 2018) rather than batch normalization because batches are small.

    Args:
        width: Channels of the first layer. The next two layers have twice and four times as many.
    """

    def __init__(self, width: int = 32) -> None:
        widths = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        super().__init__(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to scores (B, 1, H/8, W/8)."""
        scores: Tensor = super().forward(images)
        return scores

"""LPIPS (Zhang et al. 2018) by way of torchmetrics, with torchvision's ImageNet weights."""

from typing import Any, Literal, Self

import torch
from torch import Tensor

from pocketdit.errors import RunError


class LPIPS:
    """``network``: "vgg" is what decoders are usually trained with; "alex" is smaller.

    Raises:
        RunError: torchvision's weights are neither in its cache nor to be had.
    """

    def __init__(self, network: Literal["vgg", "alex", "squeeze"] = "vgg") -> None:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # takes seconds

        self.name = f"lpips-{network}"
        try:
            self.network: Any = LearnedPerceptualImagePatchSimilarity(net_type=network).net
        except OSError as error:  # URLError and HTTPError are such
            raise RunError(
                f"LPIPS: torchvision's {network} weights are not in {torch.hub.get_dir()}/checkpoints and cannot be "
                f"downloaded ({error}); fetch them on a machine with a connection and copy that folder"
            ) from error

    def to(self, device: torch.device) -> Self:
        self.network.to(device)
        return self

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            distances: Tensor = self.network(images.float(), target.float())
        return distances.flatten()

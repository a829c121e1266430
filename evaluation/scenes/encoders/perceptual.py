"""A perceptual distance for decoders of drawn scenes: a stand-in where LPIPS has no weights, and never called so."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.scenes.encoders.features import FeatureNetwork
from evaluation.scenes.encoders.weight_files import WEIGHTS, load_weights


class SceneFeatureDistance:
    """A ``PerceptualDistance`` (pocketdit/decoders/contract.py) in the layers of the scene features' network.

    As LPIPS does, without its learned weights: after every ReLU, features are scaled to unit length at each place; the
    squared distances are averaged over places and summed over layers.

    Raises:
        UserError: there are no such weights.
    """

    name = "scene_features"

    def __init__(self, weights: Path = WEIGHTS / "features.safetensors") -> None:
        tensors, about, _ = load_weights(weights)
        network = FeatureNetwork(about["widths"])
        network.load_state_dict(tensors)
        self.network = network.eval().requires_grad_(False)

    def to(self, device: torch.device) -> Self:
        self.network.to(device)
        return self

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        pairs = zip(self.features(images), self.features(target), strict=True)
        return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]).sum(0)

    def features(self, images: Tensor) -> list[Tensor]:
        """One (B, C, h, w) a layer, of unit length over C."""
        found, x = [], images.float()
        with torch.autocast(images.device.type, enabled=False):
            for layer in self.network:
                if isinstance(layer, nn.AdaptiveAvgPool2d):
                    break
                x = layer(x)
                if isinstance(layer, nn.ReLU):
                    found.append(functional.normalize(x, dim=1))
        return found

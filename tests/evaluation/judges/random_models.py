"""Provides questions, images and random weights for tests of question answerers."""

import numpy as np
import torch
from torch import nn

from evaluation.contract import ImageArray

QUESTIONS = ["is there a red dog ?", "what is in the house ?", "a cat ?"]


def noise(seed: int) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def randomize(model: nn.Module) -> None:
    """Set random weights that are large enough for the answers to depend on both question and image."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)

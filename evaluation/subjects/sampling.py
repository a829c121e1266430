"""What subjects that sample images have in common."""

import os
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch

from evaluation.contract import ImageArray, Prompt

_PICTURES_A_SEED = 1000


def device() -> str:
    """This process's GPU (torchrun's LOCAL_RANK), or the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def picture_seed(seed: int, number: int) -> int:
    """Of a prompt's ``number``-th picture; two seeds share none."""
    return _PICTURES_A_SEED * seed + number


def to_pictures(images: torch.Tensor) -> list[ImageArray]:
    """(B, 3, H, W) in [-1, 1] -> B times uint8 (H, W, 3)."""
    scaled = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [np.ascontiguousarray(picture) for picture in scaled.permute(0, 2, 3, 1).cpu().numpy()]


def size_of(prompt: Prompt, default: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels: what the prompt's metadata ask for, else the default."""
    if "width" in prompt.metadata and "height" in prompt.metadata:
        return int(prompt.metadata["height"]), int(prompt.metadata["width"])
    return default


def by_size(prompts: Sequence[Prompt], default: tuple[int, int]) -> Iterator[tuple[tuple[int, int], list[Prompt]]]:
    """Prompts of one size together."""
    ordered = sorted(prompts, key=lambda prompt: size_of(prompt, default))
    for size, some in groupby(ordered, key=lambda prompt: size_of(prompt, default)):
        yield size, list(some)

"""Devices, seeds and batches for subjects that sample images."""

import os
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch

from evaluation.contract import Prompt
from pocketdit.bounds import MAX_SIDE
from pocketdit.errors import ConfigError

_IMAGES_PER_SEED = 1000

Size = tuple[int, int]  # (height, width) in pixels


def device() -> str:
    """Return the name of this process's GPU (numbered by torchrun's LOCAL_RANK), or "cpu" if there is no GPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def image_seed(seed: int, number: int) -> int:
    """Return the seed of image ``number`` of a prompt.

    For up to 1000 images per prompt, different values of ``seed`` yield different image seeds.
    """
    return _IMAGES_PER_SEED * seed + number


def image_size(prompt: Prompt, default: Size) -> Size:
    """Return the size in the prompt's metadata, or the default.

    Raises:
        ConfigError: The height or the width is not a number of pixels from 1 to 65,536.
    """
    sides = prompt.metadata.get("height"), prompt.metadata.get("width")
    if all(side in (None, "") for side in sides):  # an empty cell in a CSV file is ""
        return default
    try:
        height, width = (int(str(side)) for side in sides)
    except ValueError:
        height = width = 0
    if not 1 <= min(height, width) <= max(height, width) <= MAX_SIDE:
        raise ConfigError(
            f"prompt {prompt.id}: the height {sides[0]!r} and the width {sides[1]!r} are not numbers of pixels from 1 "
            f"to {MAX_SIDE:,}"
        )
    return height, width


def group_by_size(prompts: Sequence[Prompt], default: Size) -> Iterator[tuple[Size, list[Prompt]]]:
    """Yield each image size with its prompts."""
    ordered = sorted(prompts, key=lambda prompt: image_size(prompt, default))
    for size, group in groupby(ordered, key=lambda prompt: image_size(prompt, default)):
        yield size, list(group)

"""Generates scenes of a split. A hash of the short caption determines it, so no short caption is in both splits."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from datamodules.scenes.captions import caption_scene, short_caption
from datamodules.scenes.scene import Scene, random_scene
from datamodules.shards.schema import Split

_VALIDATION_PERCENT = 5


class CaptionedScene(NamedTuple):
    """A scene with its captions (the short caption first) and a permanent ID."""

    id: str
    scene: Scene
    captions: list[str]


def split_of(caption: str) -> Split:
    """Return the split of scenes with this short caption. About 5% of captions are held out."""
    digest = hashlib.blake2b(caption.encode(), digest_size=8).digest()
    return "validation" if int.from_bytes(digest, "big") % 100 < _VALIDATION_PERCENT else "train"


def generate_scenes(split: Split, count: int, seed: int) -> Iterator[CaptionedScene]:
    """Yield ``count`` scenes of a split. They depend only on the arguments."""
    generated, number = 0, 0
    while generated < count:
        scene_seed = (seed << 32) + number
        scene = random_scene(scene_seed)
        if split_of(short_caption(scene, scene_seed)) == split:
            yield CaptionedScene(f"{seed}-{number:08d}", scene, caption_scene(scene, scene_seed))
            generated += 1
        number += 1

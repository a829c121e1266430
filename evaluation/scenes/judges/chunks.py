"""Finds the noun chunks of scene captions, about which T2I-CompBench asks questions."""

import re

from datamodules.scenes.phrases import NUMBER_WORDS
from datamodules.scenes.scene import BACKGROUNDS, COLORS, SHAPES, SIZES
from evaluation.contract import Backend

_CHUNK = re.compile(
    rf"(?:\b(?:an?|the|{'|'.join(NUMBER_WORDS.values())}) )?(?:\b(?:{'|'.join(SIZES)}) )?"
    rf"(?:\b(?:{'|'.join(COLORS)}) )?\b(?:{'|'.join(SHAPES)})(?:e?s)?\b"
    rf"|\ba (?:plain )?(?:{'|'.join(BACKGROUNDS)}) background\b",
    re.IGNORECASE,
)


class SceneChunks:
    """Finds the objects and the background in a caption, with article or number, size and color, but without places.

    It is used in place of spaCy and knows only the vocabulary of scenes.
    """

    backend = Backend("scene-chunks", "1")

    def chunks(self, text: str) -> list[str]:
        """Return the noun chunks of a caption, in order."""
        return _CHUNK.findall(text)

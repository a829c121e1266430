"""The noun chunks of drawn scenes' captions: T2I-CompBench asks a question for each."""

import re

from datamodules.scenes.phrases import NUMBER_WORDS
from datamodules.scenes.scene import BACKGROUNDS, COLORS, SHAPES, SIZES
from evaluation.contract import Backend

_CHUNK = re.compile(
    rf"(?:\b(?:an?|the|{'|'.join(NUMBER_WORDS.values())}) )?(?:\b(?:{'|'.join(SIZES)}) )?(?:\b(?:{'|'.join(COLORS)}) )?"
    rf"\b(?:{'|'.join(SHAPES)})(?:e?s)?\b"
    rf"|\ba (?:plain )?(?:{'|'.join(BACKGROUNDS)}) background\b",
    re.IGNORECASE,
)


class SceneChunks:
    """Objects and the background, with their article or number, size and colour; places ("the top left") are none.

    A stand-in for spaCy's noun chunks that knows the words of scenes alone.
    """

    backend = Backend("scene-chunks", "1")

    def chunks(self, text: str) -> list[str]:
        return _CHUNK.findall(text)

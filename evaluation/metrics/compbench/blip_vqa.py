"""T2I-CompBench's attribute score (Huang et al. 2023, arXiv 2307.06350, Sec. 4): colour, shape and texture.

Each noun chunk of the prompt is asked for ("a green bench?"), and the probabilities of yes are multiplied, so that a
green bowl and a blue bench do not pass for the reverse.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.contract import ImageArray, NounChunks, Prompt, QuestionAnswerer
from pocketdit.errors import ConfigError, UserError

DECIMALS = 4

# Left over from relations: "on the left of" is no object.
DROPPED = frozenset({"top", "the side", "the left", "the right"})


def questions(chunks: Sequence[str], most: int) -> list[str]:
    """Questions for at most ``most`` chunks, in order; words left over from relations are none."""
    return [f"{chunk}?" for chunk in chunks if chunk not in DROPPED][:most]


def attribute_score(probabilities: Sequence[float]) -> float:
    """Product of the probabilities of yes, each rounded to 4 decimals as in the published score."""
    return math.prod(round(float(probability), DECIMALS) for probability in probabilities)


class BlipVqa:
    """Scores pictures by a question for each noun chunk of the prompt.

    ``max_chunks``: further chunks are not asked for. The published answerer is Salesforce/blip-vqa-capfilt-large,
    the published chunks are those of spaCy's en_core_web_sm.
    """

    categories = ("color", "shape", "texture")

    def __init__(self, answerer: QuestionAnswerer, chunks: NounChunks, max_chunks: int = 8) -> None:
        if max_chunks < 1:
            raise ConfigError(f"max_chunks {max_chunks}: want at least 1")
        self.answerer = answerer
        self.chunks = chunks
        self.max_chunks = max_chunks
        self.backends = (answerer.backend, chunks.backend)
        self.protocol: Mapping[str, Any] = {
            "scorer": "blip_vqa",
            "question": "{chunk}?",
            "noun_chunks": chunks.backend.name,
            "dropped_chunks": sorted(DROPPED),
            "max_chunks": max_chunks,
            "decimals": DECIMALS,
        }

    def score(self, pictures: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        asked = questions(self.chunks.chunks(prompt.text), self.max_chunks)
        if not asked:
            # The product of nothing would be a full score.
            raise UserError(
                f"{prompt.id}: {self.chunks.backend.name} finds no noun chunk in {prompt.text!r}; leave the prompt out"
            )
        return [attribute_score(self.answerer.yes_probabilities(picture, asked)) for picture in pictures]

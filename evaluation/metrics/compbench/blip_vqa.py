"""T2I-CompBench's attribute score (Huang et al. 2023, arXiv 2307.06350, Sec. 4): color, shape and texture.

One question is asked for each noun chunk of the prompt ("a green bench?"), and the probabilities of yes are
multiplied. An image of a green bowl and a blue bench thus scores low for "a green bench and a blue bowl".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.contract import Backend, ImageArray, NounChunker, Prompt, QuestionAnswerer
from evaluation.metrics.compbench.scorer import Limits
from evaluation.metrics.text_limits import truncation
from pocketdit.errors import ConfigError, UserError

DECIMALS = 4

# Noun chunks that are not objects but part of relations such as "on the left of".
DROPPED = frozenset({"top", "the side", "the left", "the right"})


def ask_for_chunks(chunks: Sequence[str], limit: int) -> list[str]:
    """Return questions for up to ``limit`` noun chunks, in order, skipping those in ``DROPPED``."""
    return [f"{chunk}?" for chunk in chunks if chunk not in DROPPED][:limit]


def attribute_score(probabilities: Sequence[float]) -> float:
    """Return the product of the probabilities of yes, each rounded to 4 decimals as in the published code."""
    return math.prod(round(float(probability), DECIMALS) for probability in probabilities)


class BlipVqa:
    """Scores images by asking a question for each noun chunk of the prompt.

    Args:
        answerer: Answers the questions; the published model is Salesforce/blip-vqa-capfilt-large.
        chunks: Finds the noun chunks; the published model is spaCy's en_core_web_sm.
        max_chunks: Maximum number of questions per prompt.

    Raises:
        ConfigError: ``max_chunks`` is below 1.
    """

    categories: tuple[str, ...] = ("color", "shape", "texture")

    def __init__(self, answerer: QuestionAnswerer, chunks: NounChunker, max_chunks: int = 8) -> None:
        if max_chunks < 1:
            raise ConfigError(f"max_chunks must be at least 1, not {max_chunks}")
        self.answerer = answerer
        self.chunks = chunks
        self.max_chunks = max_chunks
        self.backends: tuple[Backend, ...] = (answerer.backend, chunks.backend)
        self.protocol: Mapping[str, Any] = {
            "scorer": "blip_vqa",
            "question": "{chunk}?",
            "noun_chunks": chunks.backend.name,
            "dropped_chunks": sorted(DROPPED),
            "max_chunks": max_chunks,
            "decimals": DECIMALS,
        }

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        """Return the attribute score of each image.

        Raises:
            UserError: The prompt has no noun chunks.
        """
        questions = self._questions(prompt)
        if not questions:
            # An empty product would be a perfect score.
            raise UserError(
                f"{self.chunks.backend.name} finds no noun chunks in prompt {prompt.id} ({prompt.text!r}); remove the "
                "prompt"
            )
        return [attribute_score(self.answerer.yes_probabilities(image, questions)) for image in images]

    def limits(self, prompts: Sequence[Prompt]) -> Limits:
        """Return the scorer's limitations, which include the number of truncated questions."""
        questions = [question for prompt in prompts for question in self._questions(prompt)]
        return Limits((1.0,) * len(prompts), *truncation(self.answerer, questions, "questions"))

    def _questions(self, prompt: Prompt) -> list[str]:
        return ask_for_chunks(self.chunks.chunks(prompt.text), self.max_chunks)

"""Preference scores from CLIP models that were trained on human choices between images for the same prompt.

- PickScore (Kirstain et al. 2023, arXiv 2305.01569): the cosine similarity of an image and its prompt, multiplied by
  the model's logit scale.
- HPSv2.1 (Wu et al. 2023, arXiv 2306.09341): the cosine similarity.

The names of the results always contain the encoder's name. The encoder's version contains the hash of the weights,
which shows whether they are the published weights.
"""

from typing import Literal

import numpy as np

from evaluation.contract import ImageSet, ImageTextEncoder, Result, Score, result_name
from evaluation.metrics.clip_score import cosines
from evaluation.metrics.text_limits import truncation
from evaluation.optional import LogitScale
from pocketdit.errors import ConfigError

Kind = Literal["pickscore", "hpsv2.1"]


class PreferenceScore:
    """Mean over all prompts of the mean preference score of a prompt's images.

    Args:
        prompts: Key of the prompt set in the evaluation.
        kind: "pickscore" or "hpsv2.1".
        encoder: A CLIP model with the weights for this kind of score.

    Raises:
        ConfigError: The kind is unknown, or the encoder has no logit scale, which PickScore needs.
    """

    def __init__(self, prompts: str, kind: Kind, encoder: ImageTextEncoder) -> None:
        if kind not in ("pickscore", "hpsv2.1"):
            raise ConfigError(f"kind must be pickscore or hpsv2.1, not {kind}")
        self.prompts = prompts
        self.kind = kind
        self.encoder = encoder
        self.scale = _logit_scale(encoder) if kind == "pickscore" else 1.0

    def score(self, images: ImageSet) -> Result:
        """Score an image set.

        Raises:
            UserError: A prompt has no images, or a feature is not finite.
        """
        by_prompt = {name: self.scale * cosine for name, cosine in cosines(self.encoder, images).items()}
        samples = sum(len(images.images[name]) for name in by_prompt)
        backend = self.encoder.backend
        truncated, notes = truncation(self.encoder, [prompt.text for prompt in images.prompts.prompts], "prompts")
        return Result(
            metric=result_name(self.kind, backend),
            scores={"overall": Score(float(np.mean(list(by_prompt.values()))), samples, by_prompt)},
            protocol={
                "prompts": images.prompts.name,
                "encoder": backend.name,
                "encoder_version": backend.version,
                "scale": self.scale,
                **truncated,
            },
            notes=notes,
        )


def _logit_scale(encoder: ImageTextEncoder) -> float:
    if not isinstance(encoder, LogitScale):
        raise ConfigError(f"encoder: {encoder.backend.name} has no logit scale, which PickScore needs")
    return encoder.logit_scale

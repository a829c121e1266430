"""CLIP-Score (Hessel et al. 2021, arXiv 2104.08718): the cosine of a picture's features and its prompt's.

The plain cosine: not multiplied by 100 or 2.5, and not cut off at 0. Papers seldom name the CLIP, the words put before
a prompt, or the prompts; here all three stand in the result.
"""

import numpy as np

from evaluation.contract import ImageSet, ImageTextEncoder, Result, Score, open_image, result_name
from pocketdit.errors import UserError

BENCHMARK = "clip-score"


class ClipScore:
    """Mean over prompts of the mean cosine of their pictures.

    ``prefix``: put before every prompt as it stands, so end it with a space ("A photo depicts " is one in use).

    Raises:
        UserError: when scoring, where a prompt has no picture or a feature is not finite.
    """

    def __init__(self, prompts: str, encoder: ImageTextEncoder, prefix: str = "") -> None:
        self.prompts = prompts
        self.encoder = encoder
        self.prefix = prefix

    def score(self, images: ImageSet) -> Result:
        prompts = images.prompts.prompts
        missing = [prompt.id for prompt in prompts if not images.images.get(prompt.id)]
        if missing or not prompts:
            raise UserError(f"{len(missing)} of {len(prompts)} prompts have no pictures; draw them again")
        texts = self.encoder.encode_texts([self.prefix + prompt.text for prompt in prompts])
        by_prompt: dict[str, float] = {}
        for prompt, text in zip(prompts, texts, strict=True):
            pictures = self.encoder.encode_images([open_image(path) for path in images.images[prompt.id]])
            by_prompt[prompt.id] = float(np.mean(pictures.astype(np.float64) @ text.astype(np.float64)))
            if not np.isfinite(by_prompt[prompt.id]):
                raise UserError(f"prompt {prompt.id}: a feature is not finite; look at the encoder's weights")
        samples = sum(len(images.images[prompt.id]) for prompt in prompts)
        backend = self.encoder.backend
        return Result(
            metric=result_name(BENCHMARK, backend),
            scores={"overall": Score(float(np.mean(list(by_prompt.values()))), samples, by_prompt)},
            protocol={
                "prompts": images.prompts.name,
                "encoder": backend.name,
                "encoder_version": backend.version,
                "prefix": self.prefix,
                "value": "mean cosine, not scaled, not clamped",
            },
        )

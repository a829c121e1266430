"""CLIP-Score (Hessel et al. 2021, arXiv 2104.08718): cosine similarity of image features and prompt features.

The value is the plain cosine: it is neither multiplied by 100 or 2.5 nor clamped at 0. Papers rarely state which CLIP
model, prefix and prompts they use, so the result states all three.
"""

import numpy as np

from evaluation.contract import ImageSet, ImageTextEncoder, Result, Score, open_image, result_name
from evaluation.metrics.text_limits import truncation
from pocketdit.errors import UserError

BENCHMARK = "clip-score"


class ClipScore:
    """Mean over all prompts of the mean cosine similarity between a prompt and its images.

    Args:
        prompts: Key of the prompt set in the evaluation.
        encoder: The CLIP model.
        prefix: Text to insert before every prompt, such as "A photo depicts". As in the published code, a space is
            inserted after the prefix, so the prefix need not end with one (YAML drops spaces at the end of unquoted
            strings).
    """

    def __init__(self, prompts: str, encoder: ImageTextEncoder, prefix: str = "") -> None:
        self.prompts = prompts
        self.encoder = encoder
        self.prefix = f"{prefix.rstrip()} " if prefix.strip() else ""

    def score(self, images: ImageSet) -> Result:
        """Score an image set.

        Raises:
            UserError: A prompt has no images, or a feature is not finite.
        """
        by_prompt = cosines(self.encoder, images, self.prefix)
        samples = sum(len(images.images[name]) for name in by_prompt)
        backend = self.encoder.backend
        texts = [self.prefix + prompt.text for prompt in images.prompts.prompts]
        truncated, notes = truncation(self.encoder, texts, "prompts")
        return Result(
            metric=result_name(BENCHMARK, backend),
            scores={"overall": Score(float(np.mean(list(by_prompt.values()))), samples, by_prompt)},
            protocol={
                "prompts": images.prompts.name,
                "encoder": backend.name,
                "encoder_version": backend.version,
                "prefix": self.prefix,
                "value": "mean cosine, not scaled, not clamped",
                **truncated,
            },
            notes=notes,
        )


def cosines(encoder: ImageTextEncoder, images: ImageSet, prefix: str = "") -> dict[str, float]:
    """Return, for each prompt id, the mean cosine similarity between the prefixed prompt and the prompt's images.

    Raises:
        UserError: A prompt has no images, or a feature is not finite.
    """
    prompts = images.prompts.prompts
    missing = [prompt.id for prompt in prompts if not images.images.get(prompt.id)]
    if missing or not prompts:
        raise UserError(f"prompts without images: {len(missing)} of {len(prompts)}; run the evaluation again")
    text_features = encoder.encode_texts([prefix + prompt.text for prompt in prompts])
    by_prompt: dict[str, float] = {}
    for prompt, text in zip(prompts, text_features, strict=True):
        features = encoder.encode_images([open_image(path) for path in images.images[prompt.id]])
        by_prompt[prompt.id] = float(np.mean(features.astype(np.float64) @ text.astype(np.float64)))
        if not np.isfinite(by_prompt[prompt.id]):
            raise UserError(f"prompt {prompt.id}: a feature is not finite; check the encoder's weights")
    return by_prompt

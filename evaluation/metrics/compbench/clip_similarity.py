"""T2I-CompBench's non-spatial score (Huang et al. 2023, arXiv 2307.06350, Sec. 4): CLIP's cosine similarity."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.contract import Backend, ImageArray, ImageTextEncoder, Prompt
from evaluation.metrics.compbench.scorer import Limits
from evaluation.metrics.text_limits import truncation


class ClipSimilarity:
    """Cosine similarity between an image and its prompt, neither scaled nor clamped.

    Args:
        encoder: The CLIP model; the published model is OpenAI's ViT-B/32.
    """

    categories: tuple[str, ...] = ("non_spatial",)

    def __init__(self, encoder: ImageTextEncoder) -> None:
        self.encoder = encoder
        self.backends: tuple[Backend, ...] = (encoder.backend,)
        self.protocol: Mapping[str, Any] = {"scorer": "clip_similarity", "prefix": "", "scale": 1}

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        """Return the cosine similarity between each image and the prompt."""
        text = self.encoder.encode_texts([prompt.text])[0]
        return [float(cosine) for cosine in self.encoder.encode_images(images) @ text]

    def limits(self, prompts: Sequence[Prompt]) -> Limits:
        """Return the scorer's limitations, which include the number of truncated prompts."""
        texts = [prompt.text for prompt in prompts]
        return Limits((1.0,) * len(prompts), *truncation(self.encoder, texts, "prompts"))

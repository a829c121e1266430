"""A small CLIP that knows drawn scenes and nothing else: a stand-in where a published CLIP would judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.contract import Backend, ImageArray
from evaluation.scenes.encoders.letterbox import letterbox
from evaluation.scenes.encoders.tokenizer import WordTokenizer
from evaluation.scenes.encoders.weight_files import WEIGHTS, load_weights

_BATCH = 64

# Arguments of open_clip's CLIP; the text tower's vocabulary comes from the tokenizer.
ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"layers": (1, 1, 1, 1), "width": 8, "image_size": 96, "head_width": 32},
    "text_cfg": {"context_length": 72, "width": 64, "heads": 4, "layers": 2},
}


def build_clip(architecture: dict[str, Any], vocabulary_size: int) -> Any:
    """open_clip's own CLIP (Ilharco et al. 2021) with random weights."""
    from open_clip import CLIP

    text = {**architecture["text_cfg"], "vocab_size": vocabulary_size}
    return CLIP(architecture["embed_dim"], architecture["vision_cfg"], text)


class SceneClip:
    """Texts and pictures in one space of 64 dimensions, of norm 1.

    Trained by ``python -m evaluation.scenes.train_encoders`` on training scenes with their short and long captions;
    words that scenes do not use are all one to it. ``weights``: a file of that command; by default the shipped one.

    Raises:
        UserError: there are no such weights.
    """

    def __init__(self, weights: Path = WEIGHTS / "clip.safetensors") -> None:
        tensors, about, version = load_weights(weights)
        self.backend = Backend("scene-clip", version)
        self._side = int(about["architecture"]["vision_cfg"]["image_size"])
        self._tokenizer = WordTokenizer(about["vocabulary"], about["architecture"]["text_cfg"]["context_length"])
        self._model = build_clip(about["architecture"], self._tokenizer.size)
        self._model.load_state_dict(tensors)
        self._model.eval().requires_grad_(False)

    def encode_images(self, pictures: Sequence[ImageArray]) -> NDArray[np.float32]:
        """N pictures (H, W, 3) -> (N, 64)."""
        batches = (pictures[i : i + _BATCH] for i in range(0, len(pictures), _BATCH))
        return self._joined(
            [self._model.encode_image(letterbox(batch, self._side), normalize=True) for batch in batches]
        )

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts -> (N, 64)."""
        batches = (texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH))
        return self._joined([self._model.encode_text(self._tokenizer(batch), normalize=True) for batch in batches])

    def _joined(self, parts: list[torch.Tensor]) -> NDArray[np.float32]:
        width = int(self._model.text_projection.shape[1])
        features: NDArray[np.float32] = torch.cat([torch.empty(0, width), *parts]).numpy()
        return features

"""A small CLIP model for rendered scenes, used in place of a published one."""

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

_BATCH_SIZE = 64

# Arguments of open_clip's CLIP. ``build_clip`` adds the vocabulary size of the text tower.
ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"layers": (1, 1, 1, 1), "width": 8, "image_size": 96, "head_width": 32},
    "text_cfg": {"context_length": 72, "width": 64, "heads": 4, "layers": 2},
}


def build_clip(architecture: dict[str, Any], vocabulary_size: int) -> Any:
    """Build open_clip's CLIP (Ilharco et al. 2021) with random weights."""
    from open_clip import CLIP

    text = {**architecture["text_cfg"], "vocab_size": vocabulary_size}
    return CLIP(architecture["embed_dim"], architecture["vision_cfg"], text)


class SceneClip:
    """Encodes texts and images as vectors of norm 1 in a shared space with 64 dimensions.

    It works only for rendered scenes. ``python benchmarks/train_scene_encoders.py`` trains it on scenes of the training
    split with their short and long captions. Words that do not occur in these captions share one embedding.

    Args:
        weights: Weights file written by the training command.

    Raises:
        UserError: The weights are missing or invalid.
    """

    def __init__(self, weights: Path = WEIGHTS / "clip.safetensors") -> None:
        tensors, metadata, version = load_weights(weights)
        self.backend = Backend("scene-clip", version)
        architecture = metadata["architecture"]
        self._side = int(architecture["vision_cfg"]["image_size"])
        self._tokenizer = WordTokenizer(metadata["vocabulary"], architecture["text_cfg"]["context_length"])
        self.max_text_tokens = self._tokenizer.length
        self._model = build_clip(architecture, self._tokenizer.size)
        self._model.load_state_dict(tensors)
        self._model.eval().requires_grad_(False)

    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        """Encode N images (H, W, 3) as features (N, 64)."""
        batches = (images[i : i + _BATCH_SIZE] for i in range(0, len(images), _BATCH_SIZE))
        return self._concatenate(
            [self._model.encode_image(letterbox(batch, self._side), normalize=True) for batch in batches]
        )

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode N texts as features (N, 64)."""
        batches = (texts[i : i + _BATCH_SIZE] for i in range(0, len(texts), _BATCH_SIZE))
        return self._concatenate([self._model.encode_text(self._tokenizer(batch), normalize=True) for batch in batches])

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of texts with more words than the model reads."""
        return self._tokenizer.count_truncated(texts)

    def _concatenate(self, batches: list[torch.Tensor]) -> NDArray[np.float32]:
        width = int(self._model.text_projection.shape[1])
        features: NDArray[np.float32] = torch.cat([torch.empty(0, width), *batches]).numpy()
        return features

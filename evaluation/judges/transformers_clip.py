"""Encodes images and texts with a CLIP model in the Hugging Face Transformers format, such as PickScore's model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import normalize

from evaluation.contract import ImageArray
from evaluation.judges.transformers_folder import folder_backend, load_config, load_model
from pocketdit.encoders.checkpoints import explain_load_errors

_DESCRIPTION = "a CLIP model"
_BATCH = 32


class TransformersClip:
    """Encodes images and texts as float32 features of norm 1.

    Args:
        path: Folder in the Hugging Face Transformers format, with weights in safetensors, such as
            yuvalkirstain/PickScore_v1.
        processor: Folder with the tokenizer and the image processor; None uses ``path``. PickScore uses the processor
            of laion/CLIP-ViT-H-14-laion2B-s32B-b79K.
        name: Name of the judge in results; None uses the folder's name.
        device: Device to run on.

    Raises:
        UserError: A folder is missing or incomplete, or contains a different model.
    """

    def __init__(self, path: Path, processor: Path | None = None, name: str | None = None, device: str = "cpu") -> None:
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        config = load_config(path, _DESCRIPTION, "clip")
        self.model: Any = load_model(CLIPModel, path, _DESCRIPTION, "float32", device)
        folder = str(path if processor is None else processor)
        with explain_load_errors(f"the processor of {_DESCRIPTION}", folder):
            self.tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            self.image_processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        self.max_text_tokens = int(config.text_config.max_position_embeddings)
        self.dimensions = int(config.projection_dim)
        self.device = torch.device(device)
        self.backend = folder_backend(path, name)

    @property
    def logit_scale(self) -> float:
        """The factor by which cosine similarities were multiplied in training."""
        return float(self.model.logit_scale.exp())

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of texts with more tokens than fit in the model's context."""
        return sum(len(self.tokenizer(text).input_ids) > self.max_text_tokens for text in texts)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        """Encode N images (H, W, 3) of any size as features (N, D)."""
        parts = [np.empty((0, self.dimensions), np.float32)]
        for i in range(0, len(images), _BATCH):
            batch = [Image.fromarray(image) for image in images[i : i + _BATCH]]
            pixels = self.image_processor(batch, return_tensors="pt").pixel_values.to(self.device)
            hidden = self.model.vision_model(pixel_values=pixels).pooler_output
            parts.append(normalize(self.model.visual_projection(hidden).float(), dim=-1).cpu().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode N texts as features (N, D). Texts that exceed the model's context are truncated."""
        parts = [np.empty((0, self.dimensions), np.float32)]
        for i in range(0, len(texts), _BATCH):
            tokens = self.tokenizer(
                list(texts[i : i + _BATCH]),
                padding=True,
                truncation=True,
                max_length=self.max_text_tokens,
                return_tensors="pt",
            ).to(self.device)
            hidden = self.model.text_model(
                input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
            ).pooler_output
            parts.append(normalize(self.model.text_projection(hidden).float(), dim=-1).cpu().numpy())
        return np.concatenate(parts)

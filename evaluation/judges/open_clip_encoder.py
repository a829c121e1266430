"""Encodes images and texts with any CLIP model in open_clip (Ilharco et al. 2021)."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.assets import Asset
from evaluation.contract import Backend, ImageArray
from evaluation.judges.open_clip_weights import check_positions, position_shapes
from evaluation.judges.weight_files import first_line
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

_BATCH = 32
_QUICK_GELU = "-quickgelu"
_OPENAI_HINT = (
    "for OpenAI's weights, use open_clip_model.safetensors (timm/vit_*_clip_*.openai on the Hugging Face Hub)"
)


class OpenClip:
    """Encodes images and texts as float32 features of norm 1.

    Some weights, such as OpenAI's, were trained with QuickGELU. They yield wrong features with GELU, which models
    without "quickgelu" in their names use. If the tag or the file's path shows that the activation is wrong, an error
    is raised. If the activation may be wrong, a warning is issued.

    Args:
        model: Name of a model in open_clip, such as ViT-B-32-quickgelu.
        weights: Weights file (safetensors, or a pickle that contains only tensors), or one of open_clip's tags, such as
            openai, whose weights open_clip downloads or reads from its cache.
        tag: open_clip's tag for the weights in the file. It determines the preprocessing if the model's published
            weights do not all use the same preprocessing.
        device: Device to run on.
        resize_mode: How images are resized to the model's square input: "shortest" crops them, "longest" pads them with
            black, as HPSv2's own code does, and "squash" changes their aspect ratio. None uses the mode of the
            published weights.

    Raises:
        UserError: open_clip does not have the model or the tag; the weights are missing, are for another architecture
            or contain more than tensors; or they were trained with QuickGELU and the model uses GELU.
    """

    assets = (
        Asset(
            "weights",
            "",
            "https://huggingface.co/timm/vit_base_patch32_clip_224.openai/resolve/main/open_clip_model.safetensors",
            "",
            605_000_000,
            model="ViT-B-32-quickgelu",
        ),
    )

    def __init__(
        self,
        model: str,
        weights: str | Path,
        tag: str = "",
        device: str = "cpu",
        resize_mode: Literal["shortest", "longest", "squash"] | None = None,
    ) -> None:
        import open_clip

        if model not in open_clip.list_models():
            raise UserError(f"model {model}: not an open_clip model; open_clip.list_models() lists all models")
        path = Path(weights)
        from_file = path.suffix != "" or path.exists()
        tag = tag if from_file else str(weights)
        _check_activation(model, tag, path)
        version = f"sha256 {_digest(path)[:16]}" if from_file else tag
        shapes = position_shapes(path, model, _OPENAI_HINT) if from_file else {}
        try:
            network, _, self._transform = open_clip.create_model_and_transforms(
                model,
                pretrained=str(weights),
                weights_only=True,
                pretrained_image=False,
                pretrained_text=False,
                **_preprocessing(model, tag) | ({"image_resize_mode": resize_mode} if resize_mode else {}),
            )
        except Exception as error:  # open_clip can raise any exception for formats that it does not know
            raise UserError(
                f"{weights}: does not contain plain weights of {model} ({first_line(error)}); {_OPENAI_HINT}"
            ) from error
        check_positions(network, shapes, f"{weights}: does not contain plain weights of {model}")
        self.device = torch.device(device)
        self.model: Any = network.to(self.device).eval().requires_grad_(False)
        self._tokenizer: Any = open_clip.get_tokenizer(model)
        self.max_text_tokens = int(self._tokenizer.context_length)
        resizing = f", resize mode {resize_mode}" if resize_mode else ""
        self.backend = Backend(model, f"open_clip {open_clip.__version__}, {version}{resizing}")

    @property
    def logit_scale(self) -> float:
        """The factor by which cosine similarities were multiplied in training."""
        return float(self.model.logit_scale.exp())

    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        """Encode N images (H, W, 3) of any size as features (N, D), with the preprocessing of the published weights."""
        return self._in_batches(
            [Image.fromarray(image) for image in images],
            lambda batch: torch.stack([self._transform(image) for image in batch]),
            self.model.encode_image,
        )

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode N texts as features (N, D). Texts that exceed the model's context (often 77 tokens) are truncated."""
        return self._in_batches(list(texts), self._tokenizer, self.model.encode_text)

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of texts with more tokens than fit in the model's context."""
        return sum(self._is_truncated(text) for text in texts)

    def _is_truncated(self, text: str) -> bool:
        """Return whether the text has more tokens than fit in the model's context."""
        longer = self.max_text_tokens + len(text.encode()) + 8  # a context that is long enough for any text
        tokens = self._tokenizer([text], context_length=longer)[0, :-1]  # some tokenizers put a class token at the end
        return bool((tokens[self.max_text_tokens :] != tokens[-1]).any())

    def _in_batches(self, items: list[Any], prepare: Any, encode: Any) -> NDArray[np.float32]:
        parts = [np.empty((0, self._dimensions()), np.float32)]
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for i in range(0, len(items), _BATCH):
                features = encode(prepare(items[i : i + _BATCH]).to(self.device), normalize=True)
                parts.append(features.float().cpu().numpy())
        return np.concatenate(parts)

    def _dimensions(self) -> int:
        import open_clip

        return int(open_clip.get_model_config(self.backend.name)["embed_dim"])


def _check_activation(model: str, tag: str, path: Path) -> None:
    """Raise ``UserError`` if the model uses GELU but the weights need QuickGELU. Warn if they may need it."""
    import open_clip

    published, models = open_clip.list_pretrained_tags_by_model(model), open_clip.list_models()
    if tag and tag not in published:
        raise UserError(
            f"open_clip has no weights {tag!r} for {model}; available tags: {', '.join(published) or 'none'}"
        )
    if open_clip.get_model_config(model).get("quick_gelu", False):
        return
    variant = f"{model}{_QUICK_GELU}"
    remedy = f"use {variant}" if variant in models else "open_clip has no QuickGELU variant of this model"
    if tag and open_clip.get_pretrained_cfg(model, tag).get("quick_gelu"):
        raise UserError(f"{model} uses GELU, but its weights {tag} were trained with QuickGELU; {remedy}")
    # The last four parts identify a file in the Hub's cache: models--timm--NAME.openai/snapshots/REVISION/FILE.
    if not tag and any("openai" in part.lower() for part in path.parts[-4:]):
        raise UserError(
            f"{path}: the path suggests OpenAI's weights, which were trained with QuickGELU, but {model} uses GELU; "
            f"{remedy}, or set the tag if these are different weights"
        )
    if not tag and variant in models:
        warnings.warn(
            f"{path}: {model} uses GELU; if these weights were trained with QuickGELU, like OpenAI's, the features are "
            f"wrong and {variant} is needed (set the tag to have this checked)",
            stacklevel=3,
        )


def _preprocessing(model: str, tag: str) -> dict[str, Any]:
    """Return the preprocessing of a tag's weights.

    Without a tag, return the preprocessing that all published weights of the model share. If the weights do not all use
    the same preprocessing, the result is empty, so that open_clip's default applies.
    """
    import open_clip

    keys = ("mean", "std", "interpolation", "resize_mode")
    tags = [tag] if tag else open_clip.list_pretrained_tags_by_model(model)
    configs = [{key: open_clip.get_pretrained_cfg(model, name).get(key) for key in keys} for name in tags]
    if not configs or any(config != configs[0] for config in configs):
        return {}
    return {f"image_{key}": value for key, value in configs[0].items() if value is not None}


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_OPENAI_HINT}") from error

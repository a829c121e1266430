"""Any CLIP that open_clip knows (Ilharco et al. 2021), as a judge of pictures and texts."""

import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.contract import Backend, ImageArray
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

_BATCH = 32
_QUICK = "-quickgelu"
_OPENAI_ADVICE = (
    "of OpenAI's weights take open_clip_model.safetensors (timm/vit_*_clip_*.openai on the Hugging Face hub)"
)


class OpenClip:
    """Pictures and texts as features of norm 1, float32.

    ``model``: a name that open_clip knows, such as ViT-B-32-quickgelu. ``weights``: a file (safetensors, or a pickle of
    tensors alone), or a tag of open_clip's, such as openai, which it takes from its cache or downloads. ``tag``: which
    of open_clip's published weights the file holds; it decides the preprocessing where they differ in it.

    OpenAI's weights, and others', were trained with QuickGELU. A plain name runs them with GELU: features come out, and
    they are wrong. Where that is known, from the tag or the file's path, it is refused; where it may be, there is a
    warning.

    Raises:
        UserError: open_clip does not know the model or the tag; the weights are missing, of another architecture or
            hold more than tensors; or they were trained with QuickGELU and the model has GELU.
    """

    def __init__(self, model: str, weights: str | Path, tag: str = "", device: str = "cpu") -> None:
        import open_clip
        from safetensors import SafetensorError

        if model not in open_clip.list_models():
            raise UserError(f"open_clip has no model {model}; its list_models() names those it has")
        path = Path(weights)
        from_file = path.suffix != "" or path.exists()
        tag = tag if from_file else str(weights)
        _check_activation(model, tag, path)
        version = f"sha256 {_digest(path)[:16]}" if from_file else tag
        try:
            network, _, self._transform = open_clip.create_model_and_transforms(
                model,
                pretrained=str(weights),
                weights_only=True,
                pretrained_image=False,
                pretrained_text=False,
                **_preprocessing(model, tag),
            )
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
            raise UserError(f"{weights}: not plain weights of {model} ({reason}); {_OPENAI_ADVICE}") from error
        self.device = torch.device(device)
        self.model: Any = network.to(self.device).eval().requires_grad_(False)
        self._tokenizer = open_clip.get_tokenizer(model)
        self.backend = Backend(model, f"open_clip {open_clip.__version__}, {version}")

    def encode_images(self, pictures: Sequence[ImageArray]) -> NDArray[np.float32]:
        """N pictures (H, W, 3) of any sizes -> (N, D); resized and cut as the weights' makers say."""
        return self._in_batches(
            [Image.fromarray(picture) for picture in pictures],
            lambda some: torch.stack([self._transform(picture) for picture in some]),
            self.model.encode_image,
        )

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts -> (N, D); what exceeds the model's context (77 tokens of OpenAI's) is cut off."""
        return self._in_batches(list(texts), self._tokenizer, self.model.encode_text)

    def _in_batches(self, items: list[Any], prepare: Any, encode: Any) -> NDArray[np.float32]:
        parts = [np.empty((0, self._width()), np.float32)]
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for i in range(0, len(items), _BATCH):
                features = encode(prepare(items[i : i + _BATCH]).to(self.device), normalize=True)
                parts.append(features.float().cpu().numpy())
        return np.concatenate(parts)

    def _width(self) -> int:
        import open_clip

        return int(open_clip.get_model_config(self.backend.name)["embed_dim"])


def _check_activation(model: str, tag: str, path: Path) -> None:
    """Refuses weights that are known to be of QuickGELU for a model without it, warns where they may be."""
    import open_clip

    published, models = open_clip.list_pretrained_tags_by_model(model), open_clip.list_models()
    if tag and tag not in published:
        raise UserError(f"open_clip has no weights {tag!r} of {model}; it has {', '.join(published) or 'none'}")
    if open_clip.get_model_config(model).get("quick_gelu", False):
        return
    twin = f"{model}{_QUICK}"
    instead = f"say {twin}" if twin in models else "open_clip has no variant of it with QuickGELU"
    if tag and open_clip.get_pretrained_cfg(model, tag).get("quick_gelu"):
        raise UserError(f"{model} has GELU, but its weights {tag} were trained with QuickGELU: {instead}")
    # Enough of the path for the hub's cache: models--timm--NAME.openai/snapshots/REVISION/FILE.
    if not tag and any("openai" in part.lower() for part in path.parts[-4:]):
        raise UserError(
            f"{path}: weights of OpenAI's by their path, trained with QuickGELU, but {model} has GELU: {instead}; "
            "if they are others, give their tag"
        )
    if not tag and twin in models:
        warnings.warn(
            f"{path}: run with GELU; if these weights were trained with QuickGELU, as OpenAI's were, the features are "
            f"wrong: then say {twin} (give the weights' tag, and this is checked)",
            stacklevel=3,
        )


def _preprocessing(model: str, tag: str) -> dict[str, Any]:
    """Of the tag; without one, of all the model's published weights where they agree; else open_clip's default."""
    import open_clip

    keys = ("mean", "std", "interpolation", "resize_mode")
    tags = [tag] if tag else open_clip.list_pretrained_tags_by_model(model)
    found = [{key: open_clip.get_pretrained_cfg(model, one).get(key) for key in keys} for one in tags]
    if not found or any(other != found[0] for other in found):
        return {}
    return {f"image_{key}": value for key, value in found[0].items() if value is not None}


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_OPENAI_ADVICE}") from error

"""The colour reader of GenEval: CLIP compares a cut-out object with the names of ten colours."""

import pickle
from collections.abc import Collection, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import normalize

from evaluation.contract import COLORS, Backend, Detection, ImageArray
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

TEMPLATES = ("a photo of a {color} {label}", "a photo of a {color}-colored {label}", "a photo of a {color} object")

_GREY = 153  # "#999"
_BATCH = 16
_ARCHITECTURE = "ViT-L-14-quickgelu"
# sha256 of OpenAI's ViT-L-14.pt, which is part of its address.
_OPENAI = "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
_SOURCE = (
    f"get https://openaipublic.azureedge.net/clip/models/{_OPENAI}/ViT-L-14.pt "
    "or open_clip_model.safetensors of timm/vit_large_patch14_clip_224.openai on the Hugging Face hub"
)


class ClipColorReader:
    """Names one of ten colours for each detection, by open_clip (Ilharco et al. 2021).

    ``weights``: OpenAI's ViT-L-14.pt, the published judge, recognised by its sha256; or another file of open_clip's,
    safetensors or a pickle of tensors alone. ``architecture``: a plain CLIP's name in open_clip. OpenAI's weights were
    trained with QuickGELU, and "ViT-L-14" would run them with GELU.

    Arithmetic is float32; the benchmark's script lets CUDA round to float16, so that near ties may fall otherwise.

    Raises:
        UserError: the weights are missing, of another architecture, or hold more than tensors; or open_clip does not
            know the architecture.
    """

    def __init__(self, weights: Path, device: str = "cpu", architecture: str = _ARCHITECTURE) -> None:
        import open_clip

        weights = Path(weights)
        config = open_clip.get_model_config(architecture)
        if config is None or set(config) - {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}:
            raise UserError(f"open_clip has no plain CLIP called {architecture}; GenEval's is {_ARCHITECTURE}")
        digest = _digest(weights)
        model = open_clip.CLIP(**config)
        _load(model, weights, digest)
        # Shorter side to the model's by PIL's bicubic, centre crop, CLIP's mean and standard deviation.
        self._transform = open_clip.image_transform(model.visual.image_size, is_train=False)
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self._tokenizer = open_clip.get_tokenizer(architecture)
        self._prototypes = lru_cache(maxsize=None)(self._read_prototypes)
        known = digest == _OPENAI and architecture == _ARCHITECTURE
        self.backend = Backend(
            f"clip {architecture} ({'openai' if known else 'unknown weights'})",
            f"sha256 {digest[:16]}, open_clip {version('open_clip_torch')}",
            ("geneval",) if known else (),
        )

    def colors(self, picture: ImageArray, detections: Sequence[Detection]) -> list[str]:
        """One of ``COLORS`` for each detection."""
        names: list[str] = []
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(detections), _BATCH):
                batch = detections[start : start + _BATCH]
                pixels = torch.stack([self._transform(cut_out(picture, detection)) for detection in batch])
                features = normalize(self.model.encode_image(pixels.to(self.device)), dim=-1)
                for feature, detection in zip(features, batch, strict=True):
                    names.append(COLORS[int((self._prototypes(detection.label) @ feature).argmax())])
        return names

    def _read_prototypes(self, label: str) -> Tensor:
        """Features (10, D) of the colours of a ``label``: mean of the templates' directions, norm 1."""
        texts = [template.format(color=color, label=label) for color in COLORS for template in TEMPLATES]
        features = normalize(self.model.encode_text(self._tokenizer(texts).to(self.device)), dim=-1)
        return normalize(features.unflatten(0, (len(COLORS), len(TEMPLATES))).mean(dim=1), dim=-1)


def cut_out(picture: ImageArray, detection: Detection) -> Image.Image:
    """The detection's box of the picture, grey outside of the mask where it has one."""
    if detection.mask is not None:
        picture = np.where(detection.mask[..., None], picture, np.uint8(_GREY))
    left, top, right, bottom = map(round, detection.box)
    return Image.fromarray(picture).crop((left, top, right, bottom))


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_SOURCE}") from error


def _load(model: Any, path: Path, digest: str) -> None:
    import open_clip

    try:
        if digest == _OPENAI:
            model.load_state_dict(_archived_weights(path, model.state_dict().keys()))
        else:
            open_clip.load_checkpoint(model, str(path), weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
        raise UserError(f"{path}: not plain weights of this CLIP ({reason}); {_SOURCE}") from error


def _archived_weights(path: Path, names: Collection[str]) -> dict[str, Tensor]:
    """The weights of OpenAI's TorchScript archive: a program, which is why only the very file is opened."""
    state = torch.jit.load(path, map_location="cpu").state_dict()
    return {name: tensor for name, tensor in state.items() if name in names}

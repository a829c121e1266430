"""GenEval's color reader: CLIP compares a cropped object with the names of ten colors."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from evaluation.assets import Asset
from evaluation.contract import COLORS, Backend, Detection, ImageArray
from evaluation.judges.open_clip_weights import check_positions, position_shapes
from evaluation.judges.weight_files import first_line
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

TEMPLATES = ("a photo of a {color} {label}", "a photo of a {color}-colored {label}", "a photo of a {color} object")

_GRAY = 153  # "#999"
_BATCH = 16
_ARCHITECTURE = "ViT-L-14-quickgelu"
# SHA-256 of OpenAI's ViT-L-14.pt. The file's URL contains it.
_OPENAI_SHA256 = "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
_OPENAI_URL = f"https://openaipublic.azureedge.net/clip/models/{_OPENAI_SHA256}/ViT-L-14.pt"
_SOURCE = (
    f"get {_OPENAI_URL} or open_clip_model.safetensors of timm/vit_large_patch14_clip_224.openai "
    "on the Hugging Face Hub"
)


class ClipColorReader:
    """Assigns one of ten colors to each detection with open_clip (Ilharco et al. 2021).

    All computations use float32. The benchmark's script rounds to float16 on CUDA, which can change the result if the
    scores of two colors are nearly equal.

    Args:
        weights: Weights file for open_clip (safetensors, or a pickle that contains only tensors). The published judge
            is OpenAI's ViT-L-14.pt, which is recognized by its SHA-256.
        device: Device to run on.
        architecture: Name of a plain CLIP model in open_clip. OpenAI's weights were trained with QuickGELU, whereas
            "ViT-L-14" uses GELU.

    Raises:
        UserError: The weights are missing, are for another architecture or contain more than tensors, or open_clip
            does not have the architecture.
    """

    assets = (Asset("weights", "", _OPENAI_URL, _OPENAI_SHA256, 933_000_000),)

    def __init__(self, weights: Path, device: str = "cpu", architecture: str = _ARCHITECTURE) -> None:
        import open_clip

        weights = Path(weights)
        config = open_clip.get_model_config(architecture)
        if config is None or set(config) - {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}:
            raise UserError(
                f"architecture {architecture}: not a plain CLIP model in open_clip; GenEval uses {_ARCHITECTURE}"
            )
        digest = _digest(weights)
        model = open_clip.CLIP(**config)
        _load(model, weights, digest)
        # This transform is PIL's bicubic resize of the shorter side to the input size, a center crop, and CLIP's
        # normalization.
        self._transform = open_clip.image_transform(model.visual.image_size, is_train=False)
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self._tokenizer = open_clip.get_tokenizer(architecture)
        self._prototypes = lru_cache(maxsize=None)(self._encode_prototypes)
        published = digest == _OPENAI_SHA256 and architecture == _ARCHITECTURE
        self.backend = Backend(
            f"clip {architecture} ({'openai' if published else 'unknown weights'})",
            f"sha256 {digest[:16]}, open_clip {version('open_clip_torch')}",
            ("geneval",) if published else (),
        )

    def colors(self, image: ImageArray, detections: Sequence[Detection]) -> list[str]:
        """Return one of ``COLORS`` for each detection."""
        names: list[str] = []
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(detections), _BATCH):
                batch = detections[start : start + _BATCH]
                pixels = torch.stack([self._transform(crop(image, detection)) for detection in batch])
                features = normalize(self.model.encode_image(pixels.to(self.device)), dim=-1)
                for feature, detection in zip(features, batch, strict=True):
                    names.append(COLORS[int((self._prototypes(detection.label) @ feature).argmax())])
        return names

    def _encode_prototypes(self, label: str) -> Tensor:
        """Return features (10, D) of norm 1 for a ``label`` in each color, averaged over the templates."""
        texts = [template.format(color=color, label=label) for color in COLORS for template in TEMPLATES]
        features = normalize(self.model.encode_text(self._tokenizer(texts).to(self.device)), dim=-1)
        return normalize(features.reshape(len(COLORS), len(TEMPLATES), -1).mean(dim=1), dim=-1)


def crop(image: ImageArray, detection: Detection) -> Image.Image:
    """Crop the image to the detection's box. If the detection has a mask, pixels outside it become gray."""
    if detection.mask is not None:
        image = np.where(detection.mask[..., None], image, np.uint8(_GRAY))
    left, top, right, bottom = map(round, detection.box)
    return Image.fromarray(image).crop((left, top, right, bottom))


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_SOURCE}") from error


def _load(model: Any, path: Path, digest: str) -> None:
    import open_clip

    shapes = {} if digest == _OPENAI_SHA256 else position_shapes(path, "this CLIP model", _SOURCE)
    try:
        if digest == _OPENAI_SHA256:
            model.load_state_dict(_torchscript_weights(path, model.state_dict().keys()))
        else:
            open_clip.load_checkpoint(model, str(path), weights_only=True)
    except Exception as error:  # open_clip can raise any exception for formats that it does not know
        raise UserError(
            f"{path}: does not contain plain weights of this CLIP model ({first_line(error)}); {_SOURCE}"
        ) from error
    check_positions(model, shapes, f"{path}: does not contain plain weights of this CLIP model")


def _torchscript_weights(path: Path, names: Collection[str]) -> dict[str, Tensor]:
    """Read OpenAI's TorchScript archive. Archives can run code, so only a file with the known digest may be opened."""
    archive = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]  # torch does not annotate it
    state: dict[str, Tensor] = archive.state_dict()
    return {name: tensor for name, tensor in state.items() if name in names}

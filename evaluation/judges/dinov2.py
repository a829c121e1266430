"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193) as the feature network of DINO-FID, as dgm-eval runs it.

dgm-eval (Stein et al. 2023, arXiv 2306.04675; layer6ai-labs/dgm-eval) squashes a picture to 224x224 and takes the
class token after the last norm. The weights were trained at 518x518: their position embedding (37x37) is interpolated
to 16x16 here as facebookresearch/dinov2 does, bicubic, without antialias, by the scale (16 + 0.1) / 37. timm's own way
(antialias, no 0.1) and transformers' (no 0.1) give other features.
"""

import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from evaluation.contract import Backend, ImageArray
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

PUBLISHED = "vit_large_patch14_dinov2"
SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_OFFSET = 0.1  # of facebookresearch/dinov2, there against rounding, but it moves every sample
_BATCH = 32
_SOURCE = (
    "get model.safetensors of timm/vit_large_patch14_dinov2.lvd142m on the Hugging Face hub, "
    "or dinov2_vitl14_pretrain.pth of facebookresearch/dinov2"
)


class DinoV2:
    """Class tokens (1024 for ViT-L/14), float32, by timm.

    ``weights``: a file, safetensors or a pickle of tensors alone, with timm's names or facebookresearch/dinov2's; None
    takes timm's from the Hugging Face hub or its cache. ``model``: a DINOv2 without registers that timm knows; the
    published network of DINO-FID is the default. ``clean_resize``: bicubic by PIL in float32, as clean-fid and
    dgm-eval's ``--clean_resize``; False rounds to uint8 after it, as dgm-eval does without that option (its README's
    check value among them).

    The backend's version names the weights' hash and the resizing, which decide the features.

    Raises:
        UserError: the weights are missing, of another architecture, or hold more than tensors; or timm does not know
            the model.
    """

    def __init__(
        self, weights: Path | None = None, model: str = PUBLISHED, device: str = "cpu", clean_resize: bool = True
    ) -> None:
        import timm
        from cleanfid.resize import make_resizer

        if not timm.is_model(model):
            raise UserError(f"timm has no model {model}; DINO-FID's is {PUBLISHED}")
        state, version = _hub_state(model) if weights is None else _file_state(Path(weights))
        network = timm.create_model(model, pretrained=False, num_classes=0, img_size=SIDE)
        _load(network, state, f"{weights or model}")
        self.device = torch.device(device)
        self.model: Any = network.to(self.device).eval().requires_grad_(False)
        self._resize = make_resizer("PIL", not clean_resize, "bicubic", (SIDE, SIDE))
        architecture = model.partition(".")[0]
        self.backend = Backend(
            architecture,
            f"{version}, {SIDE}x{SIDE} bicubic{'' if clean_resize else ' rounded to uint8'}",
            ("dino-fid",) if architecture == PUBLISHED else (),
        )

    def pixels(self, pictures: Sequence[ImageArray]) -> Tensor:
        """N pictures (H, W, 3) -> what the network sees, (N, 3, 224, 224), float32."""
        resized = np.stack([self._resize(picture) for picture in pictures]).astype(np.float32)
        normal = (torch.from_numpy(resized) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        return normal.permute(0, 3, 1, 2).contiguous()

    def encode_images(self, pictures: Sequence[ImageArray]) -> NDArray[np.float32]:
        """N pictures (H, W, 3) of any sizes -> (N, D)."""
        parts = [np.empty((0, self.model.num_features), np.float32)]
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for i in range(0, len(pictures), _BATCH):
                tokens = self.model.forward_features(self.pixels(pictures[i : i + _BATCH]).to(self.device))
                parts.append(tokens[:, 0].float().cpu().numpy())
        return np.concatenate(parts)


def interpolated_positions(embedding: Tensor, side: int) -> Tensor:
    """A position embedding (1, 1 + S * S, D), the class token's first, as one (1, 1 + side * side, D).

    The published interpolation (facebookresearch/dinov2, ``interpolate_pos_encoding``); nothing where S is ``side``.
    ``ValueError`` where the embedding is of no square grid and one class token.
    """
    old = math.isqrt(embedding.shape[1] - 1)
    if old * old != embedding.shape[1] - 1:
        raise ValueError(f"{embedding.shape[1]} positions are not those of a square and a class token")
    if old == side:
        return embedding
    grid = embedding[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    scale = (side + _OFFSET) / old
    grid = interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat((embedding[:, :1].float(), grid.flatten(2).transpose(1, 2)), dim=1)


def _hub_state(model: str) -> tuple[Mapping[str, Tensor], str]:
    import timm

    try:
        network: Any = timm.create_model(model, pretrained=True, num_classes=0)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{model}: timm cannot load its weights ({_first_line(error)}); {_SOURCE}") from error
    return network.state_dict(), f"timm {network.pretrained_cfg.get('tag', '')}".strip()


def _file_state(path: Path) -> tuple[Mapping[str, Tensor], str]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        digest = sha256_of(path)
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_SOURCE}") from error
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(f"{path}: not plain weights ({_first_line(error)}); {_SOURCE}") from error
    return state, f"sha256 {digest[:16]}"


def _load(network: Any, state: Mapping[str, Tensor], source: str) -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    try:
        tensors = dict(state)
        if any("reg" in name.split(".")[0] for name in tensors):
            raise ValueError("it has registers, whose positions are interpolated in another way")
        positions = interpolated_positions(tensors.pop("pos_embed"), network.patch_embed.grid_size[0])
        network.load_state_dict(checkpoint_filter_fn(tensors, network) | {"pos_embed": positions})
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise UserError(f"{source}: not the weights of this DINOv2 ({_first_line(error)}); {_SOURCE}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch's list of keys that are missing or of another shape begins with a line that says nothing of them.
    return " ".join(lines[:2])[:200].rstrip(" .:") or type(error).__name__

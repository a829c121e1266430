"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193) as the feature network of DINO-FID, as dgm-eval runs it.

dgm-eval (Stein et al. 2023, arXiv 2306.04675; layer6ai-labs/dgm-eval) resizes an image to 224x224, ignoring its aspect
ratio, and uses the class token after the last norm. The weights were trained at 518x518. Their position embedding
(37x37) is interpolated to 16x16 as in facebookresearch/dinov2: bicubic, without antialiasing, with the scale
(16 + 0.1) / 37. timm's interpolation (antialiasing, no 0.1) and transformers' (no 0.1) yield different features.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from evaluation.assets import Asset
from evaluation.contract import Backend, ImageArray
from evaluation.judges.weight_files import first_line, read_weights
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

PUBLISHED = "vit_large_patch14_dinov2"
SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_OFFSET = 0.1  # added by facebookresearch/dinov2 to guard against rounding; it shifts all sampling positions
_BATCH = 32
_HUB_FILE = "https://huggingface.co/timm/vit_large_patch14_dinov2.lvd142m/resolve/main/model.safetensors"
_SOURCE = (
    "get model.safetensors of timm/vit_large_patch14_dinov2.lvd142m on the Hugging Face Hub, "
    "or dinov2_vitl14_pretrain.pth of facebookresearch/dinov2"
)


class DinoV2:
    """Encodes images as DINOv2 class tokens (1024 dimensions for ViT-L/14) in float32, with timm.

    The backend's version states the hash of the weights and the resizing, both of which affect the features.

    Args:
        weights: Weights file with the tensor names of timm or facebookresearch/dinov2 (safetensors, or a pickle that
            contains only tensors). None uses timm's weights from the Hugging Face Hub or its cache.
        model: Name of a DINOv2 model without registers in timm. The default is the published network of DINO-FID.
        device: Device to run on.
        clean_resize: True resizes in float32 with PIL's bicubic filter, as clean-fid and dgm-eval's
            ``--clean_resize`` do. False also rounds to uint8, as dgm-eval does without that option (including for
            the reference value in its README).

    Raises:
        UserError: The weights are missing, are for another architecture or contain more than tensors, or timm does
            not have the model.
    """

    assets = (Asset("weights", "", _HUB_FILE, "", 1_220_000_000, model=PUBLISHED),)

    def __init__(
        self, weights: Path | None = None, model: str = PUBLISHED, device: str = "cpu", clean_resize: bool = True
    ) -> None:
        import timm
        from cleanfid.resize import make_resizer

        if not timm.is_model(model):
            raise UserError(f"model {model}: not a timm model; DINO-FID uses {PUBLISHED}")
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

    def preprocess(self, images: Sequence[ImageArray]) -> Tensor:
        """Resize and normalize N images (H, W, 3) to the network's input (N, 3, 224, 224), float32."""
        resized = np.stack([self._resize(image) for image in images]).astype(np.float32)
        normalized = (torch.from_numpy(resized) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        return normalized.permute(0, 3, 1, 2).contiguous()

    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        """Encode N images (H, W, 3) of any size as features (N, D)."""
        parts = [np.empty((0, self.model.num_features), np.float32)]
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for i in range(0, len(images), _BATCH):
                tokens = self.model.forward_features(self.preprocess(images[i : i + _BATCH]).to(self.device))
                parts.append(tokens[:, 0].float().cpu().numpy())
        return np.concatenate(parts)


def interpolate_positions(embedding: Tensor, side: int) -> Tensor:
    """Interpolate a position embedding (1, 1 + S * S, D) to (1, 1 + side * side, D).

    The class token comes first. This is the published interpolation (facebookresearch/dinov2,
    ``interpolate_pos_encoding``). If S equals ``side``, the embedding is returned unchanged.

    Raises:
        ValueError: The embedding does not consist of a class token and a square grid.
    """
    old = math.isqrt(embedding.shape[1] - 1)
    if old * old != embedding.shape[1] - 1:
        raise ValueError(f"{embedding.shape[1]} positions are not a class token and a square grid")
    if old == side:
        return embedding
    grid = embedding[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    scale = (side + _OFFSET) / old
    grid = interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat((embedding[:, :1].float(), grid.flatten(2).transpose(1, 2)), dim=1)


def _hub_state(model: str) -> tuple[Mapping[str, Tensor], str]:
    """Return timm's weights and their version."""
    import timm

    try:
        network: Any = timm.create_model(model, pretrained=True, num_classes=0)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{model}: timm cannot load its weights ({first_line(error)}); {_SOURCE}") from error
    return network.state_dict(), f"timm {network.pretrained_cfg.get('tag', '')}".strip()


def _file_state(path: Path) -> tuple[Mapping[str, Tensor], str]:
    """Return the weights in a file and their version."""
    state = read_weights(path, "a DINOv2 model", _SOURCE)
    return state, f"sha256 {sha256_of(path)[:16]}"


def _load(network: Any, state: Mapping[str, Tensor], source: str) -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    try:
        tensors = dict(state)
        if any("reg" in name.split(".")[0] for name in tensors):
            raise ValueError("models with registers are not supported; their positions are interpolated differently")
        positions = interpolate_positions(tensors.pop("pos_embed"), network.patch_embed.grid_size[0])
        network.load_state_dict(checkpoint_filter_fn(tensors, network) | {"pos_embed": positions})
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise UserError(f"{source}: not the weights of this DINOv2 model ({first_line(error)}); {_SOURCE}") from error

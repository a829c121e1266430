"""GenEval's object detector: Mask2Former with Swin-S, run with transformers instead of mmdet.

Preprocessing and postprocessing reimplement mmdet 2.x, because transformers' own processor resizes differently.

Shapes: Q queries, K classes, and mask logits of size (h, w), which is a quarter of the padded image's height and width.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

from evaluation.assets import Asset
from evaluation.contract import Backend, Detection, ImageArray
from evaluation.judges.mask2former_weights import NOT_IN_MMDET, from_mmdet, swin_small_config
from evaluation.judges.weight_files import read_weights
from pocketdit.encoders.checkpoints import explain_load_errors, require_complete
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

Size = tuple[int, int]  # (height, width) in pixels
Box = tuple[float, float, float, float]
Mask = NDArray[np.bool_]

# COCO's 80 classes in COCO's order, with the names that GenEval's prompts use. The detector's class indices refer to
# this order.
OBJECTS = tuple(
    """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,
bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,
snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,
knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,
dining table,toilet,tv,laptop,computer mouse,tv remote,computer keyboard,cell phone,microwave,oven,toaster,sink,
refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush""".replace("\n", "").split(",")
)

_MODEL = "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco"
_FILE = f"{_MODEL}_20220504_001756-743b7d99.pth"
_PUBLISHED_SHA256 = "743b7d99"  # the first digits, which are part of the file name
_SOURCE = f"get {_FILE} from mmdet's model zoo"

_MAX_LONG_SIDE, _MAX_SHORT_SIDE = 1333, 800  # limits for the resized image, in pixels
_MULTIPLE = 32
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # for RGB in [0, 255]
_MAX_INSTANCES = 100


class Mask2FormerDetector:
    """Detects the 80 classes of COCO with boxes and masks: 100 detections per image, most of them with low scores.

    Args:
        weights: Checkpoint file from mmdet's model zoo, or a folder with a model in transformers' format. The
            published judge is GenEval's own checkpoint file, which is recognized by its SHA-256. Folders such as
            facebook/mask2former-swin-small-coco-instance contain separately trained weights.
        device: Device to run on.

    Raises:
        UserError: The checkpoint is missing or incomplete, is for another model, or contains more than weights.
    """

    classes = OBJECTS
    assets = (
        Asset(
            "weights",
            "",
            f"https://download.openmmlab.com/mmdetection/v2.0/mask2former/{_MODEL}/{_FILE}",
            _PUBLISHED_SHA256,
            280_000_000,
        ),
    )

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        weights = Path(weights)
        if weights.is_dir():
            model = _load_folder(weights)
            self.backend = Backend(f"mask2former ({weights.name}, other training)", _libraries())
        else:
            self.backend = _file_backend(weights)
            model = load_mmdet(weights, swin_small_config())
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)

    def detect(self, image: ImageArray) -> list[Detection]:
        """Return detections sorted by descending class probability, without applying a threshold."""
        pixels, resized = preprocess(image)
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            output = self.model(pixel_values=pixels.to(self.device))
            height, width = image.shape[:2]
            return instances(
                output.class_queries_logits[0].float(),
                output.masks_queries_logits[0].float(),
                padded=(pixels.shape[-2], pixels.shape[-1]),
                resized=resized,
                original=(height, width),
            )


def preprocess(image: ImageArray) -> tuple[Tensor, Size]:
    """Resize, normalize and pad an image (H, W, 3) to (1, 3, H', W').

    The image is scaled, keeping its aspect ratio, to the largest size with a longer side of at most 1333 pixels and a
    shorter side of at most 800 pixels. The bottom and the right are padded with zeros. Like OpenCV's INTER_LINEAR,
    resizing interpolates between the four nearest pixels even when shrinking, and rounds to integers. (OpenCV uses
    fixed-point arithmetic, so values may differ by one.)

    Returns:
        The pixels, and the size without padding.
    """
    height, width = image.shape[:2]
    factor = min(_MAX_LONG_SIDE / max(height, width), _MAX_SHORT_SIDE / min(height, width))
    resized = int(height * factor + 0.5), int(width * factor + 0.5)
    # In float32, the sampling positions in a large image are inexact enough to change some rounded values.
    pixels = torch.tensor(image, dtype=torch.float64).permute(2, 0, 1)[None]
    pixels = interpolate(pixels, size=resized, mode="bilinear", align_corners=False, antialias=False).round().float()
    mean, std = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_STD).view(3, 1, 1)
    return pad((pixels - mean) / std, (0, -resized[1] % _MULTIPLE, 0, -resized[0] % _MULTIPLE)), resized


def instances(
    class_logits: Tensor, mask_logits: Tensor, padded: Size, resized: Size, original: Size
) -> list[Detection]:
    """Return the detections for the 100 most probable query-class pairs.

    Masks are resized bilinearly to the padded size, cropped to the resized size, and resized bilinearly to the
    original size; a pixel belongs to a mask if its logit is positive. The score is the class probability times the
    mean sigmoid inside the mask. The box is the extent of the mask, with right and bottom exclusive; an empty mask
    has a box of zeros and score 0.

    Args:
        class_logits: Class logits (Q, K + 1), of which the last is for "no object".
        mask_logits: Mask logits (Q, h, w).
        padded: Size of the network's input.
        resized: Size of the input without padding.
        original: Size of the image.
    """
    probabilities = class_logits.softmax(dim=-1)[:, :-1]
    classes = probabilities.shape[1]
    best = probabilities.flatten().topk(min(_MAX_INSTANCES, probabilities.numel()))
    # Masks are computed on demand, because pairs may share a query, and all masks at full size would take hundreds of
    # megabytes.
    masks: dict[int, tuple[float, Box, Mask]] = {}
    detections: list[Detection] = []
    for probability, pair in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        query, label = divmod(pair, classes)
        if query not in masks:
            masks[query] = _mask(mask_logits[query], padded, resized, original)
        quality, box, mask = masks[query]
        detections.append(Detection(OBJECTS[label], probability * quality, box, mask))
    return detections


def _mask(logits: Tensor, padded: Size, resized: Size, original: Size) -> tuple[float, Box, Mask]:
    """Given mask logits (h, w), return the mean probability inside the mask, its box, and the mask at full size."""
    full = interpolate(logits[None, None], size=padded, mode="bilinear", align_corners=False)
    full = full[..., : resized[0], : resized[1]]
    full = interpolate(full, size=original, mode="bilinear", align_corners=False)[0, 0]
    inside = full > 0
    quality = float((full.sigmoid() * inside).sum() / (inside.sum() + 1e-6))
    rows, columns = (torch.where(inside.any(dim=dim))[0].tolist() for dim in (1, 0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else (0, 0, 0, 0)
    left, top, right, bottom = map(float, box)
    return quality, (left, top, right, bottom), inside.cpu().numpy()


def load_mmdet(path: Path, config: Any) -> Any:
    """Create transformers' Mask2Former from a ``config``, with the weights of an mmdet 2.x checkpoint.

    Raises:
        UserError: The file is missing, contains more than weights, or is for another model.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    checkpoint = read_weights(path, "mmdet's Mask2Former", _SOURCE)
    model = Mask2FormerForUniversalSegmentation(config)
    try:
        model.load_state_dict(from_mmdet(checkpoint["state_dict"], model.state_dict().keys()), strict=False)
    except (UserError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; {_SOURCE}") from error
    return model


def _load_folder(folder: Path) -> Any:
    from transformers import Mask2FormerForUniversalSegmentation

    with explain_load_errors("a Mask2Former model", str(folder)):
        model, report = Mask2FormerForUniversalSegmentation.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True
        )
    require_complete("a Mask2Former model", str(folder), set(report["missing_keys"]) - NOT_IN_MMDET)
    if model.config.num_labels != len(OBJECTS):
        raise UserError(
            f"{folder}: detects {model.config.num_labels} classes; GenEval needs COCO's {len(OBJECTS)} object classes"
        )
    return model


def _file_backend(path: Path) -> Backend:
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_SOURCE}") from error
    published = digest.startswith(_PUBLISHED_SHA256)
    name = "mask2former-swin-s (mmdet)" if published else "mask2former-swin-s (unknown weights)"
    return Backend(name, f"sha256 {digest[:16]}, {_libraries()}", ("geneval",) if published else ())


def _libraries() -> str:
    return f"transformers {version('transformers')}"

"""The object detector of GenEval: Mask2Former on Swin-S, by way of transformers instead of mmdet.

Preprocessing and postprocessing are those of mmdet 2.x, written anew: transformers' own processor takes other sizes.

Shapes: Q queries, K classes; h, w of the mask logits, a quarter of the padded picture's sides.
"""

import pickle
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

from evaluation.contract import Backend, Detection, ImageArray
from evaluation.judges.mask2former_weights import WITHOUT_SOURCE, from_mmdet, swin_small_config
from pocketdit.encoders.checkpoints import explain_load_errors, require_complete
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

Size = tuple[int, int]  # height, width in pixels
Box = tuple[float, float, float, float]
Mask = NDArray[np.bool_]

# COCO's 80 classes in its order, under the names that GenEval's prompts use; a detector's classes map by index.
OBJECTS = tuple(
    """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,
bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,
snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,
knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,
dining table,toilet,tv,laptop,computer mouse,tv remote,computer keyboard,cell phone,microwave,oven,toaster,sink,
refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush""".replace("\n", "").split(",")
)

# How the sha256 of mmdet's mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth begins.
_ORIGINAL = "743b7d99"

_LONGEST, _SHORTEST = 1333, 800  # pixels of the resized picture's sides, at most
_MULTIPLE = 32
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of RGB in [0, 255]
_INSTANCES = 100


class Mask2FormerDetector:
    """Finds the 80 classes of COCO, with boxes and masks; 100 detections a picture, most of them of low score.

    ``weights``: GenEval's own checkpoint, the .pth file from mmdet's model zoo; or a folder of a Mask2Former in
    transformers' form, such as facebook/mask2former-swin-small-coco-instance, which was trained apart. Only the
    first is the published judge, and is recognised by its sha256; ``backend`` says which one it is.

    Raises:
        UserError: the checkpoint is missing, incomplete, of another model, or holds more than weights.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        weights = Path(weights)
        if weights.is_dir():
            model = _from_folder(weights)
            self.backend = Backend(f"mask2former ({weights.name}, other training)", _libraries())
        else:
            self.backend = _backend(weights)
            model = model_from_mmdet(weights, swin_small_config())
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)

    def detect(self, picture: ImageArray) -> list[Detection]:
        """Detections by falling class probability, no threshold applied."""
        pixels, resized = preprocess(picture)
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            output = self.model(pixel_values=pixels.to(self.device))
            height, width = picture.shape[:2]
            return instances(
                output.class_queries_logits[0].float(),
                output.masks_queries_logits[0].float(),
                padded=(pixels.shape[-2], pixels.shape[-1]),
                resized=resized,
                original=(height, width),
            )


def preprocess(picture: ImageArray) -> tuple[Tensor, Size]:
    """A picture (H, W, 3) -> normalised (1, 3, H', W'), padded below and right by zeros, and the size without padding.

    The ratio is kept, the sides within 1333 and 800. Resampling is OpenCV's INTER_LINEAR, which never averages over
    more than the four nearest pixels, not even where it shrinks: torch's interpolate without antialias, rounded to
    whole levels. (OpenCV reckons in fixed point, so that a level may differ by one.)
    """
    height, width = picture.shape[:2]
    factor = min(_LONGEST / max(height, width), _SHORTEST / min(height, width))
    resized = int(height * factor + 0.5), int(width * factor + 0.5)
    # In float32 the places of a large picture's pixels are off by enough to turn some levels.
    pixels = torch.tensor(picture, dtype=torch.float64).permute(2, 0, 1)[None]
    pixels = interpolate(pixels, size=resized, mode="bilinear", align_corners=False, antialias=False).round().float()
    mean, std = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_STD).view(3, 1, 1)
    return pad((pixels - mean) / std, (0, -resized[1] % _MULTIPLE, 0, -resized[0] % _MULTIPLE)), resized


def instances(
    class_logits: Tensor, mask_logits: Tensor, padded: Size, resized: Size, original: Size
) -> list[Detection]:
    """Logits (Q, K + 1), the last for "nothing", and (Q, h, w) -> the 100 likeliest pairs of query and class.

    The masks go bilinearly to the padded size, lose the padding, and go bilinearly to the picture's; a pixel belongs
    to one where its logit is positive. Score: probability of the class, times the mean sigmoid inside the mask. Box:
    the mask's extent, right and bottom exclusive; zeros, with score 0, where the mask is empty.
    """
    probabilities = class_logits.softmax(dim=-1)[:, :-1]
    classes = probabilities.shape[1]
    best = probabilities.flatten().topk(min(_INSTANCES, probabilities.numel()))
    # Several classes may share a query, and all queries at full size would take hundreds of megabytes.
    masks: dict[int, tuple[float, Box, Mask]] = {}
    found: list[Detection] = []
    for probability, pair in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        query, label = divmod(pair, classes)
        if query not in masks:
            masks[query] = _mask(mask_logits[query], padded, resized, original)
        quality, box, mask = masks[query]
        found.append(Detection(OBJECTS[label], probability * quality, box, mask))
    return found


def _mask(logits: Tensor, padded: Size, resized: Size, original: Size) -> tuple[float, Box, Mask]:
    """Logits (h, w) -> mean sigmoid inside, box, and mask at the original size."""
    whole = interpolate(logits[None, None], size=padded, mode="bilinear", align_corners=False)
    whole = whole[..., : resized[0], : resized[1]]
    whole = interpolate(whole, size=original, mode="bilinear", align_corners=False)[0, 0]
    inside = whole > 0
    quality = float((whole.sigmoid() * inside).sum() / (inside.sum() + 1e-6))
    rows, columns = (torch.where(inside.any(dim=dim))[0].tolist() for dim in (1, 0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else (0, 0, 0, 0)
    left, top, right, bottom = map(float, box)
    return quality, (left, top, right, bottom), inside.cpu().numpy()


def model_from_mmdet(path: Path, config: Any) -> Any:
    """transformers' Mask2Former of ``config`` with the weights of an mmdet 2.x checkpoint.

    Raises:
        UserError: the file is missing, holds more than weights, or those of another model.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {_SOURCE}") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: does not load as plain weights; {_SOURCE}") from error
    model = Mask2FormerForUniversalSegmentation(config)
    try:
        model.load_state_dict(from_mmdet(stored["state_dict"], model.state_dict().keys()), strict=False)
    except (UserError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; {_SOURCE}") from error
    return model


_SOURCE = "get mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth from mmdet's model zoo"


def _from_folder(folder: Path) -> Any:
    from transformers import Mask2FormerForUniversalSegmentation

    with explain_load_errors("a Mask2Former", str(folder)):
        model, report = Mask2FormerForUniversalSegmentation.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True
        )
    require_complete("Mask2Former", str(folder), set(report["missing_keys"]) - WITHOUT_SOURCE)
    if model.config.num_labels != len(OBJECTS):
        raise UserError(
            f"{folder}: knows {model.config.num_labels} classes; GenEval wants the {len(OBJECTS)} of COCO instances"
        )
    return model


def _backend(path: Path) -> Backend:
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_SOURCE}") from error
    known = digest.startswith(_ORIGINAL)
    name = "mask2former-swin-s (mmdet)" if known else "mask2former-swin-s (unknown weights)"
    return Backend(name, f"sha256 {digest[:16]}, {_libraries()}", ("geneval",) if known else ())


def _libraries() -> str:
    return f"transformers {version('transformers')}"

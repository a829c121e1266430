"""Detects named objects with OWLv2 (Minderer et al. 2023, arXiv 2306.09683).

Shapes: P image patches, each of which predicts a box, and Q names.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou  # type: ignore[import-untyped]  # torchvision has no type information

from evaluation.assets import Asset
from evaluation.contract import Detection, ImageArray
from evaluation.judges.transformers_folder import folder_backend, load_config, load_model
from pocketdit.encoders.checkpoints import explain_load_errors
from pocketdit.errors import ConfigError

_HUB = "https://huggingface.co/google/owlv2-base-patch16-ensemble/resolve/main"
_DESCRIPTION = "OWLv2"
_QUERY = "a photo of a {}"
_MOST = 300  # maximum number of boxes per image


class Owlv2Detector:
    """Detects objects with an OWLv2 model in transformers' format, such as google/owlv2-base-patch16-ensemble.

    The vocabulary is open, so T2I-CompBench's scorers query the model for the objects of each prompt. This is not the
    published detector (UniDet), so the names of results include the model's name. Scores are lower than those of
    detectors with fixed classes; thresholds between 0.1 and 0.3 are common.

    Args:
        path: Folder in transformers' format, with weights in safetensors.
        name: Name of the judge in results; None uses the folder's name.
        device: Device to run on.
        max_overlap: A box is dropped if its intersection over union with a box of the same name and a higher score
            exceeds this value.

    Raises:
        ConfigError: ``max_overlap`` is outside [0, 1].
        UserError: The folder is missing or incomplete, or contains a different model.
    """

    assets = tuple(
        Asset("path", name, f"{_HUB}/{name}", "", size)
        for name, size in (
            ("config.json", 1_000),
            ("preprocessor_config.json", 500),
            ("tokenizer_config.json", 1_000),
            ("special_tokens_map.json", 500),
            ("vocab.json", 1_060_000),
            ("merges.txt", 525_000),
            ("model.safetensors", 620_000_000),
        )
    )

    def __init__(self, path: Path, name: str | None = None, device: str = "cpu", max_overlap: float = 0.5) -> None:
        from transformers import CLIPTokenizer, Owlv2ForObjectDetection, Owlv2ImageProcessorPil

        if not 0 <= max_overlap <= 1:
            raise ConfigError(f"max_overlap must be an intersection over union between 0 and 1, not {max_overlap}")
        config = load_config(path, _DESCRIPTION, "owlv2")
        self.model = load_model(Owlv2ForObjectDetection, path, _DESCRIPTION, "float32", device)
        with explain_load_errors(f"the processor of {_DESCRIPTION}", str(path)):
            self.tokenizer = CLIPTokenizer.from_pretrained(str(path), local_files_only=True)
            self.image_processor = Owlv2ImageProcessorPil.from_pretrained(str(path), local_files_only=True)
        self.tokens = int(config.text_config.max_position_embeddings)
        self.device, self.max_overlap = torch.device(device), max_overlap
        self.backend = folder_backend(path, name, f"query {_QUERY!r}", f"max overlap {max_overlap:g}")

    def detect_named(self, image: ImageArray, names: Sequence[str]) -> list[Detection]:
        """Return up to 300 detections, each labeled with one of ``names``, sorted by descending score."""
        if not names:
            return []
        scores, boxes = self._predict(image, names)
        best, labels = scores.max(dim=-1)
        order = best.argsort(descending=True, stable=True)[:_MOST]
        best, labels, boxes = best[order], labels[order], boxes[order]
        rows = zip(labels.tolist(), best.tolist(), boxes.tolist(), strict=True)
        detections = [Detection(names[label], score, (box[0], box[1], box[2], box[3])) for label, score, box in rows]
        return [detections[i] for i in without_overlaps(labels, boxes, self.max_overlap)]

    @torch.inference_mode()
    def _predict(self, image: ImageArray, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the scores (P, Q) of all boxes, and the boxes (P, 4) in image pixels."""
        pixels = self.image_processor(Image.fromarray(image), return_tensors="pt").pixel_values.to(self.device)
        queries = [_QUERY.format(name) for name in names]
        tokens = self.tokenizer(
            queries, padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt"
        ).to(self.device)
        output = self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=pixels)
        x, y, width, height = output.pred_boxes[0].float().unbind(dim=-1)
        corners = torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), dim=-1)
        # The processor pads the image to a square, on the right and at the bottom.
        return output.logits[0].float().sigmoid(), corners * max(image.shape[:2])


def without_overlaps(labels: Tensor, boxes: Tensor, max_overlap: float) -> list[int]:
    """Return the indices of the boxes (P, 4) that do not overlap a previously kept box with the same label (P,)."""
    conflicts = (box_iou(boxes, boxes) > max_overlap) & (labels[:, None] == labels)
    kept: list[int] = []
    for i in range(len(boxes)):
        if not conflicts[i, kept].any():
            kept.append(i)
    return kept

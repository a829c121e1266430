"""Tests the detector against mmdet's formulas, using a tiny Mask2Former with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from evaluation.contract import ImageArray
from evaluation.judges.mask2former import OBJECTS, Mask2FormerDetector, instances, preprocess
from pocketdit.errors import UserError


def tiny_config(num_labels: int = 80) -> Mask2FormerConfig:
    backbone = SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return Mask2FormerConfig(
        backbone_config=backbone,
        num_labels=num_labels,
        num_queries=6,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny-mask2former"
    Mask2FormerForUniversalSegmentation(tiny_config()).save_pretrained(path)
    return path


def noise(height: int, width: int) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def resize_bilinear(image: ImageArray, height: int, width: int) -> NDArray[np.float64]:
    """Interpolate like OpenCV's INTER_LINEAR at the positions (i + 0.5) old / new - 0.5, clamped to the edges."""

    def axis(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position = (np.arange(new) + 0.5) * old / new - 0.5
        low = np.floor(position).astype(int)
        return np.clip(low, 0, old - 1), np.clip(low + 1, 0, old - 1), position - low

    top, bottom, down = axis(image.shape[0], height)
    left, right, across = axis(image.shape[1], width)
    down, across = down[:, None, None], across[None, :, None]
    values = image.astype(float)
    upper = values[top][:, left] * (1 - across) + values[top][:, right] * across
    lower = values[bottom][:, left] * (1 - across) + values[bottom][:, right] * across
    resized: NDArray[np.float64] = upper * (1 - down) + lower * down
    return resized


@pytest.mark.parametrize(
    ("size", "resized", "padded"),
    [
        ((1024, 1024), (800, 800), (800, 800)),
        ((512, 512), (800, 800), (800, 800)),
        ((300, 400), (800, 1067), (800, 1088)),
        ((200, 1000), (267, 1333), (288, 1344)),
        ((2100, 1700), (988, 800), (992, 800)),
    ],
)
def test_preprocessing_matches_mmdet(size: tuple[int, int], resized: tuple[int, int], padded: tuple[int, int]) -> None:
    image = noise(*size)
    pixels, unpadded = preprocess(image)
    assert (unpadded, tuple(pixels.shape)) == (resized, (1, 3, *padded))
    levels = pixels[0].permute(1, 2, 0).numpy() * [58.395, 57.12, 57.375] + [123.675, 116.28, 103.53]
    inside = levels[: resized[0], : resized[1]]
    assert np.abs(inside - inside.round()).max() < 1e-4
    assert np.abs(inside - resize_bilinear(image, *resized)).max() < 0.501
    assert not pixels[..., resized[0] :, :].any()
    assert not pixels[..., resized[1] :].any()


def test_mask_determines_box_and_score() -> None:
    # The first query predicts class 3 and a rectangle with near certainty. All sizes are equal, so nothing is resized.
    class_logits = torch.full((2, 81), -20.0)
    class_logits[0, 3], class_logits[1, 80] = 20, 20
    mask_logits = torch.full((2, 8, 8), -9.0)
    mask_logits[0, 2:6, 1:4] = 9
    detections = instances(class_logits, mask_logits, padded=(8, 8), resized=(8, 8), original=(8, 8))
    assert len(detections) == 100
    best = max(detections, key=lambda item: item.score)
    assert (best.label, best.box) == ("motorcycle", (1, 2, 4, 6))
    assert best.score == pytest.approx(torch.sigmoid(torch.tensor(9.0)).item(), abs=1e-4)
    assert best.mask is not None
    assert np.array_equal(np.argwhere(best.mask)[[0, -1]], [[2, 1], [5, 3]])
    empty = [item for item in detections if item.mask is not None and not item.mask.any()]
    assert empty
    assert all(item.score == 0 and item.box == (0, 0, 0, 0) for item in empty)


def test_padding_is_removed_before_the_last_resize() -> None:
    mask_logits = torch.full((1, 4, 4), 5.0)
    mask_logits[:, :, 2:] = -5  # the mask does not cover the padding
    class_logits = torch.zeros(1, 81)
    (detection, *_) = instances(class_logits, mask_logits, padded=(16, 16), resized=(16, 6), original=(32, 12))
    assert detection.box == (0, 0, 12, 32)
    assert detection.mask is not None
    assert detection.mask.shape == (32, 12)


def test_detections_match_mmdet(folder: Path) -> None:
    """The reference applies mmdet's formulas to all queries of the same model at once."""
    image = noise(60, 90)
    detections = Mask2FormerDetector(folder).detect(image)

    pixels, (height, width) = preprocess(image)
    with torch.no_grad():
        output = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()(pixel_values=pixels)
    scores = output.class_queries_logits[0].softmax(-1)[:, :-1].flatten()
    masks = interpolate(output.masks_queries_logits, size=pixels.shape[-2:], mode="bilinear")
    masks = interpolate(masks[..., :height, :width], size=(60, 90), mode="bilinear")[0]
    best = scores.topk(100).indices
    masks = masks[best // 80]
    inside = (masks > 0).float()
    quality = (masks.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)
    labels, values = [OBJECTS[i] for i in best % 80], (scores[best] * quality).tolist()
    assert max(values) > 0.005
    order = sorted(range(100), key=lambda i: (labels[i], values[i]))
    detections.sort(key=lambda item: (item.label, item.score))
    assert [item.label for item in detections] == [labels[i] for i in order]
    np.testing.assert_allclose([item.score for item in detections], [values[i] for i in order], rtol=1e-5)
    areas = [int(item.mask.sum()) for item in detections if item.mask is not None]
    assert areas == [int(inside[i].sum()) for i in order]


def test_folder_is_not_the_published_judge(folder: Path) -> None:
    backend = Mask2FormerDetector(folder).backend
    assert backend.name == "mask2former (tiny-mask2former, other training)"
    assert backend.published_for == ()


def test_folder_with_other_classes_is_rejected(tmp_path: Path) -> None:
    Mask2FormerForUniversalSegmentation(tiny_config(num_labels=5)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="detects 5 classes"):
        Mask2FormerDetector(tmp_path)

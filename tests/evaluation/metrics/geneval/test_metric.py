"""Tests GenEval's rules, thresholds and averages on images of rectangles, with judges that read pixels exactly."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from evaluation.contract import COLORS, Backend, Detection, ImageArray, ImageSet, Prompt, PromptSet
from evaluation.judges.mask2former import Mask2FormerDetector
from evaluation.metrics.geneval.metric import GenEval
from pocketdit.errors import ConfigError, UserError

RGB = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


class RectangleDetector:
    """Detects wide rectangles as "bench" and others as "cup". The score is the share of the box that is not white."""

    backend = Backend("rectangles", "1")

    def detect(self, image: ImageArray) -> list[Detection]:
        parts, number = ndimage.label((image != 255).any(axis=-1))
        detections = []
        for part, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1):
            mask = parts == part
            wide = columns.stop - columns.start > 2 * (rows.stop - rows.start)
            box = (columns.start, rows.start, columns.stop, rows.stop)
            detections.append(Detection("bench" if wide else "cup", float(mask[rows, columns].mean()), box, mask))
        assert len(detections) == number
        return detections


class PixelColorReader:
    backend = Backend("pixels", "1", published_for=("geneval",))

    def colors(self, image: ImageArray, detections: Sequence[Detection]) -> list[str]:
        by_value = {value: name for name, value in RGB.items()}
        return [by_value[tuple(image[item.mask][0].tolist())] for item in detections]


def save_image(path: Path, *boxes: tuple[int, int, int, int, str], hole: bool = False) -> Path:
    """Save a white image with rectangles (left, top, width, height, color). ``hole`` removes a quarter of each one."""
    image = np.full((100, 100, 3), 255, np.uint8)
    for left, top, width, height, color in boxes:
        image[top : top + height, left : left + width] = RGB[color]
        if hole:
            image[top : top + height // 2, left : left + width // 2] = 255
    Image.fromarray(image).save(path)
    return path


def prompt_set(*metadata: dict[str, Any]) -> PromptSet:
    prompts = [Prompt(f"{i:05}", line.get("prompt", ""), line) for i, line in enumerate(metadata)]
    return PromptSet("geneval", tuple(prompts), images_each=2)


BENCH = {"tag": "single_object", "include": [{"class": "bench", "count": 1}]}
CUP = {"tag": "single_object", "include": [{"class": "cup", "count": 1}]}
TWO_CUPS = {
    "tag": "counting",
    "include": [{"class": "cup", "count": 2}],
    "exclude": [{"class": "cup", "count": 3}],
}
RED_CUP = {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}]}
A, B, C = (5, 5, 10, 10, "red"), (40, 5, 10, 10, "green"), (70, 60, 10, 10, "blue")
LONG = (10, 80, 50, 10, "blue")


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    files = {
        "00000": (save_image(tmp_path / "0.png", LONG), save_image(tmp_path / "1.png", A)),
        "00001": (save_image(tmp_path / "2.png", B), save_image(tmp_path / "3.png", C, LONG)),
        # Three cups are too many, two are correct, and two with holes score 0.75, which is too low for counting.
        "00002": (
            save_image(tmp_path / "4.png", A, B, C),
            save_image(tmp_path / "5.png", A, B),
            save_image(tmp_path / "6.png", A, B, hole=True),
        ),
        "00003": (save_image(tmp_path / "7.png", A), save_image(tmp_path / "8.png", B)),
    }
    return ImageSet(prompt_set(BENCH, CUP, TWO_CUPS, RED_CUP), files, {})


def test_scores_are_shares_of_images_and_overall_weights_tags_equally(images: ImageSet) -> None:
    result = GenEval("geneval", RectangleDetector(), PixelColorReader()).score(images)
    assert list(result.scores) == ["overall", "single_object", "counting", "colors"]
    values = {name: (score.value, score.samples) for name, score in result.scores.items()}
    assert values == {
        "overall": (pytest.approx((3 / 4 + 1 / 3 + 1 / 2) / 3), 9),
        "single_object": (3 / 4, 4),
        "counting": (pytest.approx(1 / 3), 3),
        "colors": (1 / 2, 2),
    }
    shares = {"00000": 1 / 2, "00001": 1.0, "00002": pytest.approx(1 / 3), "00003": 1 / 2}
    assert result.scores["overall"].by_prompt == shares
    assert result.scores["single_object"].by_prompt == {"00000": 1 / 2, "00001": 1.0}


def test_counting_has_a_higher_threshold(images: ImageSet) -> None:
    lower = GenEval("geneval", RectangleDetector(), PixelColorReader(), counting_threshold=0.3).score(images)
    assert lower.scores["counting"].value == pytest.approx(2 / 3)
    higher = GenEval("geneval", RectangleDetector(), PixelColorReader(), threshold=1.0).score(images)
    assert higher.scores["single_object"].value == 0


def test_order_of_images_and_prompts_does_not_matter(images: ImageSet) -> None:
    reordered = ImageSet(
        PromptSet("geneval", images.prompts.prompts[::-1], 2), dict(reversed(list(images.images.items()))), {}
    )
    metric = GenEval("geneval", RectangleDetector(), PixelColorReader())
    assert metric.score(reordered).scores == metric.score(images).scores


def test_name_states_unpublished_judges_and_constants(images: ImageSet) -> None:
    result = GenEval("geneval", RectangleDetector(), PixelColorReader()).score(images)
    assert result.metric == "geneval (rectangles)"
    other = GenEval("geneval", RectangleDetector(), PixelColorReader(), position_threshold=0.2).score(images)
    assert other.metric == "geneval (rectangles, other constants)"


def test_drift_is_noted_for_the_published_prompts_only(images: ImageSet) -> None:
    metric = GenEval("geneval", RectangleDetector(), PixelColorReader())
    (note,) = metric.score(images).notes
    assert "has drifted from human judgment by up to 17.7 points" in note
    scenes = replace(images, prompts=replace(images.prompts, name="scene-geneval"))
    assert metric.score(scenes).notes == ()


def test_protocol_contains_judges_and_constants(images: ImageSet) -> None:
    protocol = json.loads(
        json.dumps(GenEval("geneval", RectangleDetector(), PixelColorReader()).score(images).protocol)
    )
    assert protocol["detector"]["name"] == "rectangles"
    constants = ["threshold", "counting_threshold", "most_of_a_class", "max_overlap", "position_threshold"]
    assert [protocol[name] for name in constants] == [0.3, 0.9, 16, 1.0, 0.1]
    assert protocol["colors"] == list(COLORS)


@pytest.mark.parametrize(
    "changes",
    [
        {"tag": None},
        {"include": "bench"},
        {"include": [{"class": "bench"}]},
        {"include": [{"class": "bench", "count": "2"}]},
        {"include": [{"class": "bench", "count": 1, "position": ["above", 0]}]},  # above itself
        {"include": [{"class": "bench", "count": 1, "position": "above"}]},
        {"exclude": [{"count": 2}]},
        {"exclude": 3},
    ],
)
def test_malformed_clauses_are_refused_before_sampling(changes: dict[str, Any]) -> None:
    metric = GenEval("mine", RectangleDetector(), PixelColorReader())
    metric.check_prompts(prompt_set(BENCH, TWO_CUPS))
    with pytest.raises(ConfigError, match="prompt 00001 has no tag or no valid clauses: mine is not a GenEval"):
        metric.check_prompts(prompt_set(BENCH, TWO_CUPS | changes))


def test_incomplete_image_sets_are_errors(images: ImageSet) -> None:
    metric = GenEval("geneval", RectangleDetector(), PixelColorReader())
    with pytest.raises(UserError, match=r"prompt 00001 .* has no images"):
        metric.score(ImageSet(images.prompts, {**images.images, "00001": ()}, {}))
    with pytest.raises(UserError, match="not a GenEval prompt set"):
        metric.score(ImageSet(prompt_set({"prompt": "a cat"}), images.images, {}))
    with pytest.raises(UserError, match="is empty"):
        metric.score(ImageSet(PromptSet("geneval", ()), {}, {}))


def test_metric_runs_with_the_real_detector(tmp_path: Path) -> None:
    """With random weights, no detection reaches the threshold."""
    backbone = SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        num_labels=80,
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
    torch.manual_seed(0)
    Mask2FormerForUniversalSegmentation(config).save_pretrained(tmp_path / "tiny")
    metric = GenEval("geneval", Mask2FormerDetector(tmp_path / "tiny"), PixelColorReader())
    path = save_image(tmp_path / "a.png", A)
    result = metric.score(ImageSet(prompt_set(CUP), {"00000": (path,)}, {}))
    assert (result.metric, result.scores["overall"].value) == ("geneval (mask2former (tiny, other training))", 0)
    # Without a threshold, the image matches a prompt for its most probable class.
    label = metric.detector.detect(np.asarray(Image.open(path)))[0].label
    metadata = {"tag": "single_object", "include": [{"class": label, "count": 1}]}
    low = GenEval("geneval", metric.detector, PixelColorReader(), threshold=-1.0)
    assert low.score(ImageSet(prompt_set(metadata), {"00000": (path,)}, {})).scores["overall"].value == 1

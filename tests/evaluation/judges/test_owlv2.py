"""Tests a tiny OWLv2 with random weights against the processor of transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPTokenizer,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
)

from evaluation.contract import OpenDetector
from evaluation.judges.owlv2 import Owlv2Detector, without_overlaps
from pocketdit.errors import ConfigError, UserError
from tests.evaluation.judges.random_models import noise, randomize

NAMES = ["cat", "dog", "cup"]


def save_owlv2(folder: Path) -> Path:
    """Save a tiny OWLv2 whose tokenizer splits text into letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**shared, "vocab_size": 54, "max_position_embeddings": 20, "bos_token_id": 52, "eos_token_id": 53}
    vision = {**shared, "image_size": 48, "patch_size": 8}
    torch.manual_seed(0)
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=16))
    randomize(model)
    model.save_pretrained(folder)
    Owlv2ImageProcessorPil(size={"height": 48, "width": 48}).save_pretrained(folder)
    CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocabulary)}, merges=[], pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_owlv2(tmp_path_factory.mktemp("models") / "tiny-owlv2")


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (32, 32)])
def test_detections_are_those_of_the_processor(owlv2: Path, size: tuple[int, int]) -> None:
    """Boxes are given in pixels of the original image, although the processor pads it to a square."""
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    detections = Owlv2Detector(owlv2, max_overlap=1).detect_named(image, NAMES)
    processor = Owlv2Processor(Owlv2ImageProcessorPil.from_pretrained(owlv2), CLIPTokenizer.from_pretrained(owlv2))
    texts = [f"a photo of a {name}" for name in NAMES]
    inputs = processor(images=Image.fromarray(image), text=[texts], max_length=20, return_tensors="pt")
    with torch.inference_mode():
        outputs = Owlv2ForObjectDetection.from_pretrained(owlv2).eval()(**inputs)
    (expected,) = processor.post_process_grounded_object_detection(
        outputs, threshold=0, target_sizes=[size], text_labels=[NAMES]
    )
    boxes = np.array([d.box for d in detections])
    matches = [int(np.abs(expected["boxes"].numpy() - box).max(axis=1).argmin()) for box in boxes]
    assert sorted(matches) == list(range(36))
    np.testing.assert_allclose(boxes, expected["boxes"][matches], atol=1e-3)
    scores = [d.score for d in detections]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx(expected["scores"][matches].tolist(), abs=1e-5)
    best = outputs.logits[0].sigmoid().topk(2, dim=-1).values
    clear = [i for i, match in enumerate(matches) if best[match, 0] > best[match, 1] + 1e-4]
    assert len(clear) > 20
    assert [detections[i].label for i in clear] == [expected["text_labels"][matches[i]] for i in clear]
    assert len({d.label for d in detections}) > 1


def test_overlapping_boxes_with_lower_scores_are_dropped(owlv2: Path) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 8], [0, 5, 10, 15], [0, 0, 10, 5]])
    labels = torch.tensor([0, 0, 1, 0, 0])
    # The intersections over union with the first box are 0.8, 0.8, 1/3 and 0.5.
    assert without_overlaps(labels, boxes, 0.5) == [0, 2, 3, 4]
    assert without_overlaps(labels, boxes, 0.4) == [0, 2, 3]
    assert without_overlaps(labels, boxes, 0.9) == [0, 1, 2, 3, 4]
    kept = Owlv2Detector(owlv2, max_overlap=0).detect_named(noise(0), NAMES)
    everything = Owlv2Detector(owlv2, max_overlap=1).detect_named(noise(0), NAMES)
    assert 0 < len(kept) < len(everything)
    assert kept[0] == everything[0]


def test_names_determine_the_detections(owlv2: Path) -> None:
    detector = Owlv2Detector(owlv2)
    assert isinstance(detector, OpenDetector)
    assert detector.detect_named(noise(0), []) == []
    first, second = (detector.detect_named(noise(0), [name]) for name in ("cat", "dog"))
    assert {d.label for d in first} == {"cat"}
    assert [d.score for d in first] != [d.score for d in second]
    long = "very " * 10
    assert (
        detector.detect_named(noise(0), [f"{long} cat"])[0].score
        == detector.detect_named(noise(0), [f"{long} dog"])[0].score
    )


def test_backend_states_the_model(owlv2: Path) -> None:
    backend = Owlv2Detector(owlv2).backend
    assert (backend.name, backend.published_for) == ("tiny-owlv2", ())
    assert "max overlap 0.5" in backend.version
    assert Owlv2Detector(owlv2, name="OWL").backend.name == "OWL"


def test_wrong_arguments_are_reported(owlv2: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_overlap must be an intersection over union between 0 and 1, not 2"):
        Owlv2Detector(owlv2, max_overlap=2)
    with pytest.raises(UserError, match="OWLv2"):
        Owlv2Detector(tmp_path / "missing")

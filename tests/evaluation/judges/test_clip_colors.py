"""Tests the color reader with a tiny open_clip model that has random weights and is loaded from a file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from evaluation.contract import COLORS, Detection, ImageArray
from evaluation.judges import clip_colors
from evaluation.judges.clip_colors import TEMPLATES, ClipColorReader, crop
from pocketdit.errors import UserError

TINY = "geneval-test-tiny"
CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> open_clip.CLIP:
    folder = tmp_path_factory.mktemp("configs")
    (folder / f"{TINY}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model(TINY).eval()
    with torch.no_grad():  # with the initial weights, all features are nearly equal
        model.token_embedding.weight.mul_(100)
        model.visual.conv1.weight.mul_(30)
    return model


@pytest.fixture(scope="module")
def weights(clip: open_clip.CLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "open_clip_model.safetensors"
    save_file({name: weight.contiguous() for name, weight in clip.state_dict().items()}, path)
    return path


def noise() -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def make_detections(count: int) -> list[Detection]:
    """Return detections with boxes of several sizes. Every other detection has a mask."""
    detections = []
    for i in range(count):
        left, top, right, bottom = i, 2 * i % 20, i + 20 + i % 7, 2 * i % 20 + 25
        mask = np.zeros((50, 70), bool)
        mask[top:bottom, left : right - 3] = True
        label = ("bear", "cup")[i % 3 == 0]
        detections.append(Detection(label, 0.5, (left, top, right, bottom), mask if i % 2 else None))
    return detections


def test_pixels_outside_the_mask_are_gray() -> None:
    detection = make_detections(2)[1]
    image = np.asarray(crop(noise(), detection))
    # The benchmark masks and crops images with PIL.
    assert detection.mask is not None
    original = Image.fromarray(noise())
    blank = Image.new("RGB", original.size, color="#999")
    expected = Image.composite(original, blank, Image.fromarray(detection.mask)).crop(detection.box)
    assert np.array_equal(image, np.asarray(expected))
    assert (image[:, -3:] == 153).all()
    assert np.array_equal(image[:, :-3], noise()[2:27, 1:19])


def test_box_without_a_mask_is_cropped() -> None:
    assert np.array_equal(np.asarray(crop(noise(), Detection("cup", 1, (3, 4, 13, 24)))), noise()[4:24, 3:13])


def test_colors_match_open_clip(clip: open_clip.CLIP, weights: Path) -> None:
    """The reference processes one object and one string at a time, and there are more objects than fit in a batch."""
    detections = make_detections(20)
    names = ClipColorReader(weights, architecture=TINY).colors(noise(), detections)
    _, _, transform = open_clip.create_model_and_transforms(TINY)
    tokenizer = open_clip.get_tokenizer(TINY)
    for detection, name in zip(detections, names, strict=True):
        scores = []
        with torch.no_grad():
            image = clip.encode_image(transform(crop(noise(), detection))[None], normalize=True)[0]
            for color in COLORS:
                texts = [template.format(color=color, label=detection.label) for template in TEMPLATES]
                mean = sum(clip.encode_text(tokenizer([text]), normalize=True)[0] for text in texts)
                scores.append(float(image @ mean / mean.norm()))
        assert name == COLORS[int(np.argmax(scores))]
    assert len(set(names)) > 1


def test_templates_are_the_published_ones() -> None:
    assert [template.format(color="red", label="cup") for template in TEMPLATES] == [
        "a photo of a red cup",
        "a photo of a red-colored cup",
        "a photo of a red object",
    ]


def test_unknown_weights_are_not_the_published_judge(clip: open_clip.CLIP, weights: Path) -> None:
    backend = ClipColorReader(weights, architecture=TINY).backend
    assert backend.name == f"clip {TINY} (unknown weights)"
    assert backend.published_for == ()


def test_torchscript_archive_is_opened_only_with_the_published_digest(
    clip: open_clip.CLIP, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ViT-L-14.pt"
    program = torch.jit.script(clip)
    program.save(path)
    with pytest.raises(UserError, match="does not contain plain weights of this CLIP model"):
        ClipColorReader(path, architecture=TINY)
    monkeypatch.setattr(clip_colors, "_OPENAI_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(clip_colors, "_ARCHITECTURE", TINY)
    judge = ClipColorReader(path, architecture=TINY)
    assert judge.backend.published_for == ("geneval",)
    assert judge.backend.name == f"clip {TINY} (openai)"
    expected = ClipColorReader(weights, architecture=TINY).colors(noise(), make_detections(5))
    assert judge.colors(noise(), make_detections(5)) == expected


def test_published_architecture_uses_quick_gelu() -> None:
    config = open_clip.get_model_config("ViT-L-14-quickgelu")
    assert config["quick_gelu"]
    assert config["vision_cfg"]["image_size"] == 224


@pytest.mark.parametrize("name", ["no-such-model", "ViT-B-16-SigLIP"])
def test_other_architectures_are_rejected(weights: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"architecture {name}: not a plain CLIP model"):
        ClipColorReader(weights, architecture=name)


def test_invalid_weights_are_rejected(clip: open_clip.CLIP, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        ClipColorReader(tmp_path / "none.safetensors", architecture=TINY)
    path = tmp_path / "short.safetensors"
    save_file({name: weight.contiguous() for name, weight in list(clip.state_dict().items())[1:]}, path)
    with pytest.raises(UserError, match="does not contain plain weights of this CLIP model"):
        ClipColorReader(path, architecture=TINY)
    torch.save({"x": Path("anything")}, tmp_path / "object.pt")
    with pytest.raises(UserError, match="does not contain plain weights of this CLIP model"):
        ClipColorReader(tmp_path / "object.pt", architecture=TINY)


def test_weights_for_another_image_size_are_rejected(clip: open_clip.CLIP, tmp_path: Path) -> None:
    """If the image size differs, as for ViT-L-14-336, open_clip would interpolate the position embedding."""
    larger = open_clip.CLIP(**{**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "image_size": 64}})  # type: ignore[dict-item]
    save_file({name: tensor.contiguous() for name, tensor in larger.state_dict().items()}, tmp_path / "l.safetensors")
    message = (
        r"does not contain plain weights of this CLIP model "
        r"\(visual.positional_embedding has shape \[17, 64\], but .* \[5, 64\]\)"
    )
    with pytest.raises(UserError, match=message):
        ClipColorReader(tmp_path / "l.safetensors", architecture=TINY)

"""A tiny CLIP of random weights, registered with open_clip as users may, read through its own files."""

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
from evaluation.judges.clip_colors import TEMPLATES, ClipColorReader, cut_out
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
    with torch.no_grad():  # so that texts and pictures differ by more than their common part
        model.token_embedding.weight.mul_(100)
        model.visual.conv1.weight.mul_(30)
    return model


@pytest.fixture(scope="module")
def weights(clip: open_clip.CLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "open_clip_model.safetensors"
    save_file({name: weight.contiguous() for name, weight in clip.state_dict().items()}, path)
    return path


def picture() -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def detections(number: int) -> list[Detection]:
    """Boxes of several sizes, every other with a mask."""
    found = []
    for i in range(number):
        left, top, right, bottom = i, 2 * i % 20, i + 20 + i % 7, 2 * i % 20 + 25
        mask = np.zeros((50, 70), bool)
        mask[top:bottom, left : right - 3] = True
        label = ("bear", "cup")[i % 3 == 0]
        found.append(Detection(label, 0.5, (left, top, right, bottom), mask if i % 2 else None))
    return found


def test_outside_of_the_mask_is_grey() -> None:
    detection = detections(2)[1]
    image = np.asarray(cut_out(picture(), detection))
    # As PIL composes and crops it, which is how the benchmark does.
    assert detection.mask is not None
    whole = Image.fromarray(picture())
    blank = Image.new("RGB", whole.size, color="#999")
    expected = Image.composite(whole, blank, Image.fromarray(detection.mask)).crop(detection.box)
    assert np.array_equal(image, np.asarray(expected))
    assert (image[:, -3:] == 153).all()
    assert np.array_equal(image[:, :-3], picture()[2:27, 1:19])


def test_without_a_mask_the_box_is_kept_whole() -> None:
    assert np.array_equal(np.asarray(cut_out(picture(), Detection("cup", 1, (3, 4, 13, 24)))), picture()[4:24, 3:13])


def test_reads_what_open_clip_says(clip: open_clip.CLIP, weights: Path) -> None:
    """One object at a time, one text at a time; more objects than fit a batch."""
    found = detections(20)
    names = ClipColorReader(weights, architecture=TINY).colors(picture(), found)
    _, _, transform = open_clip.create_model_and_transforms(TINY)
    tokenizer = open_clip.get_tokenizer(TINY)
    for detection, name in zip(found, names, strict=True):
        scores = []
        with torch.no_grad():
            image = clip.encode_image(transform(cut_out(picture(), detection))[None], normalize=True)[0]
            for color in COLORS:
                texts = [template.format(color=color, label=detection.label) for template in TEMPLATES]
                mean = sum(clip.encode_text(tokenizer([text]), normalize=True)[0] for text in texts)
                scores.append(float(image @ mean / mean.norm()))
        assert name == COLORS[int(np.argmax(scores))]
    assert len(set(names)) > 1


def test_the_templates_are_the_published_ones() -> None:
    assert [template.format(color="red", label="cup") for template in TEMPLATES] == [
        "a photo of a red cup",
        "a photo of a red-colored cup",
        "a photo of a red object",
    ]


def test_unknown_weights_are_no_published_judge(clip: open_clip.CLIP, weights: Path) -> None:
    backend = ClipColorReader(weights, architecture=TINY).backend
    assert backend.name == f"clip {TINY} (unknown weights)"
    assert backend.published_for == ()


def test_openais_archive_is_opened_by_its_digest_alone(
    clip: open_clip.CLIP, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ViT-L-14.pt"
    program = torch.jit.script(clip)
    program.save(path)
    with pytest.raises(UserError, match="not plain weights of this CLIP"):
        ClipColorReader(path, architecture=TINY)
    monkeypatch.setattr(clip_colors, "_OPENAI", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(clip_colors, "_ARCHITECTURE", TINY)
    judge = ClipColorReader(path, architecture=TINY)
    assert judge.backend.published_for == ("geneval",)
    assert judge.backend.name == f"clip {TINY} (openai)"
    expected = ClipColorReader(weights, architecture=TINY).colors(picture(), detections(5))
    assert judge.colors(picture(), detections(5)) == expected


def test_the_published_architecture_has_quick_gelu() -> None:
    config = open_clip.get_model_config("ViT-L-14-quickgelu")
    assert config["quick_gelu"]
    assert config["vision_cfg"]["image_size"] == 224


@pytest.mark.parametrize("name", ["no-such-model", "ViT-B-16-SigLIP"])
def test_an_architecture_that_is_no_plain_clip_is_refused(weights: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"no plain CLIP called {name}"):
        ClipColorReader(weights, architecture=name)


def test_weights_that_do_not_fit_are_refused(clip: open_clip.CLIP, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        ClipColorReader(tmp_path / "none.safetensors", architecture=TINY)
    path = tmp_path / "short.safetensors"
    save_file({name: weight.contiguous() for name, weight in list(clip.state_dict().items())[1:]}, path)
    with pytest.raises(UserError, match="not plain weights of this CLIP"):
        ClipColorReader(path, architecture=TINY)
    torch.save({"x": Path("anything")}, tmp_path / "object.pt")
    with pytest.raises(UserError, match="not plain weights of this CLIP"):
        ClipColorReader(tmp_path / "object.pt", architecture=TINY)

"""Tests small open_clip models with random weights, loaded the way a user loads them."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from numpy.typing import NDArray
from open_clip import pretrained
from PIL import Image
from safetensors.torch import save_file

from evaluation.judges.open_clip_encoder import OpenClip
from pocketdit.commands.main import main
from pocketdit.errors import UserError

PLAIN, QUICK = "test-clip", "test-clip-quickgelu"


@pytest.fixture(scope="session", autouse=True)
def architectures(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Register a small architecture and its QuickGELU variant with open_clip."""
    folder = tmp_path_factory.mktemp("architectures")
    config: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    (folder / f"{PLAIN}.json").write_text(json.dumps(config))
    (folder / f"{QUICK}.json").write_text(json.dumps(config | {"quick_gelu": True}))
    open_clip.add_model_config(folder)


@pytest.fixture(scope="session")
def weights(architectures: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = open_clip.create_model(PLAIN)
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file({name: (3 * t if t.ndim > 1 else t).contiguous() for name, t in model.state_dict().items()}, path)
    return path


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add two tags to open_clip's published weights: one with QuickGELU and one with a different normalization."""
    configs = {
        "quick": pretrained._pcfg("https://example.invalid/quick.pt", quick_gelu=True),
        "half": pretrained._pcfg("https://example.invalid/half.pt", mean=(0.5,) * 3, std=(0.5,) * 3),
    }
    monkeypatch.setitem(pretrained._PRETRAINED, PLAIN, configs)
    monkeypatch.setitem(pretrained._PRETRAINED, QUICK, {"quick": configs["quick"]})


def component(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


def noise(count: int = 3) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (40 + 8 * i, 64, 3), dtype=np.uint8) for i in range(count)]


def test_features_are_the_normalized_features_of_open_clip(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.judges.open_clip_encoder._BATCH", 2)
    ours = OpenClip(QUICK, weights)
    model, _, transform = open_clip.create_model_and_transforms(QUICK, pretrained=str(weights))
    images, texts = noise(), ["a red circle", "two blue stars", ""]
    with torch.inference_mode():
        image_features = model.eval().encode_image(torch.stack([transform(Image.fromarray(image)) for image in images]))
        text_features = model.encode_text(open_clip.get_tokenizer(QUICK)(texts))
    pairs = ((ours.encode_images(images), image_features), (ours.encode_texts(texts), text_features))
    for features, expected in pairs:
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, torch.nn.functional.normalize(expected, dim=-1).numpy(), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-5)
    assert ours.encode_images([]).shape == ours.encode_texts([]).shape == (0, 16)


def test_the_resize_mode_longest_pads_with_black(weights: Path) -> None:
    """HPSv2's code also pads with black. Here, the longer side has the model's size, so nothing is interpolated."""
    image = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    padded = np.zeros((32, 32, 3), np.uint8)
    padded[:, 8:24] = image
    ours = OpenClip(QUICK, weights, resize_mode="longest")
    plain = OpenClip(QUICK, weights)
    np.testing.assert_allclose(ours.encode_images([image]), plain.encode_images([padded]), atol=1e-6)
    assert np.abs(ours.encode_images([image]) - plain.encode_images([image])).max() > 0.05
    np.testing.assert_array_equal(ours.encode_images([padded]), plain.encode_images([padded]))
    assert ours.backend.version == f"{plain.backend.version}, resize mode longest"


def test_backend_states_architecture_version_and_weights(weights: Path) -> None:
    backend = OpenClip(QUICK, weights).backend
    assert backend.name == QUICK
    assert backend.version.startswith(f"open_clip {open_clip.__version__}, sha256 ")
    assert backend.published_for == ()


def test_pickled_tensors_yield_the_same_features(weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(weights), tmp_path / "clip.pt")
    features = OpenClip(QUICK, tmp_path / "clip.pt").encode_images(noise())
    np.testing.assert_array_equal(features, OpenClip(QUICK, weights).encode_images(noise()))


def test_architecture_without_quickgelu_warns(weights: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick = OpenClip(QUICK, weights)
    with pytest.warns(UserWarning, match=f"and {QUICK} is needed"):
        plain = OpenClip(PLAIN, weights)
    assert np.abs(quick.encode_images(noise()) - plain.encode_images(noise())).max() > 1e-3


def test_openai_weights_need_an_architecture_with_quickgelu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ViT-B-32 uses GELU, but its weights openai .* use ViT-B-32-quickgelu"):
        OpenClip("ViT-B-32", "openai")
    cached = tmp_path / "models--timm--vit_base_patch32_clip_224.openai" / "snapshots" / "0" / "open_clip_model.pt"
    with pytest.raises(UserError, match=r"the path suggests OpenAI's weights, .* use ViT-B-32-quickgelu"):
        OpenClip("ViT-B-32", cached)


def test_tag_determines_activation_and_normalization(weights: Path, tags: None) -> None:
    with pytest.raises(UserError, match=f"trained with QuickGELU; use {QUICK}"):
        OpenClip(PLAIN, weights, tag="quick")
    with pytest.raises(UserError, match=f"no weights 'half' for {QUICK}; available tags: quick"):
        OpenClip(QUICK, weights, tag="half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half = OpenClip(PLAIN, weights, tag="half")
    white = np.full((32, 32, 3), 255, np.uint8)
    torch.testing.assert_close(half._transform(Image.fromarray(white)), torch.ones(3, 32, 32))
    default = OpenClip(QUICK, weights)._transform(Image.fromarray(white))
    assert float(default[0, 0, 0]) == pytest.approx((1 - 0.48145466) / 0.26862954)


def test_unanimous_published_weights_determine_the_normalization_of_a_file(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SigLIP, for example, needs a mean of 0.5, which its weights files do not record."""
    half = pretrained._pcfg("https://example.invalid/half.pt", mean=(0.5,) * 3, std=(0.5,) * 3, quick_gelu=True)
    monkeypatch.setitem(pretrained._PRETRAINED, QUICK, {"one": half, "other": half})
    white = Image.fromarray(np.full((32, 32, 3), 255, np.uint8))
    torch.testing.assert_close(OpenClip(QUICK, weights)._transform(white), torch.ones(3, 32, 32))


class PrintsWhenLoaded:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_invalid_weights_are_rejected(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="model clip-of-tests: not an open_clip model"):
        OpenClip("clip-of-tests", weights)
    with pytest.raises(
        UserError, match="open_clip has no weights 'best' for ViT-B-32-quickgelu; available tags: openai"
    ):
        OpenClip("ViT-B-32-quickgelu", "best")
    with pytest.raises(UserError, match="cannot be read"):
        OpenClip(QUICK, tmp_path / "missing.safetensors")
    torch.save({"logit_scale": PrintsWhenLoaded()}, tmp_path / "program.pt")
    with pytest.raises(UserError, match="does not contain plain weights"):
        OpenClip(QUICK, tmp_path / "program.pt")
    assert "run" not in capsys.readouterr().out.split()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "archive.pt"))
    with pytest.raises(
        UserError, match=r"does not contain plain weights .*TorchScript.*use open_clip_model\.safetensors"
    ):
        OpenClip(QUICK, tmp_path / "archive.pt")
    save_file({"logit_scale": torch.zeros(())}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"part\.safetensors: does not contain plain weights"):
        OpenClip(QUICK, tmp_path / "part.safetensors")


OTHERS: dict[str, dict[str, Any]] = {
    "deep": {"vision_cfg": {"layers": 3}},
    "wide": {"vision_cfg": {"width": 64}},
    "patch": {"vision_cfg": {"patch_size": 16}},
    "embed": {"embed_dim": 32},
    "words": {"text_cfg": {"vocab_size": 1000}},
    "convolutional": {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32}},
    # For the two architectures below, open_clip would interpolate the position embeddings.
    "resolution": {"vision_cfg": {"image_size": 64}},
    "context": {"text_cfg": {"context_length": 16}},
}


@pytest.mark.parametrize("name", OTHERS)
def test_weights_of_another_architecture_are_reported_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = open_clip.get_model_config(PLAIN)
    assert plain is not None
    config = {
        key: {**value, **OTHERS[name].get(key, {})} if isinstance(value, dict) else OTHERS[name].get(key, value)
        for key, value in plain.items()
    }
    model = open_clip.CLIP(**config)
    file = tmp_path / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, file)
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    Image.fromarray(noise(1)[0]).save(tmp_path / "00000.png")
    settings = {
        "evaluation": "clip",
        "subject": component("evaluation.subjects.image_folder.ImageFolder", path=str(tmp_path)),
        "prompts": {"p": component("evaluation.prompts.file.PromptFile", path=str(tmp_path / "prompts.txt"))},
        "metrics": [
            component(
                "evaluation.metrics.clip_score.ClipScore",
                prompts="p",
                encoder=component("evaluation.judges.open_clip_encoder.OpenClip", model=QUICK, weights=str(file)),
            )
        ],
        "out": str(tmp_path / "out"),
    }
    (tmp_path / "clip.yaml").write_text(yaml.safe_dump(settings))
    assert main(["evaluate", str(tmp_path / "clip.yaml")]) == 1
    err = capsys.readouterr().err.strip()
    assert f"{name}.safetensors: does not contain plain weights of {QUICK} (" in err
    assert err.count("\n") == 0
    reasons = {"resolution": "visual.positional_embedding has shape", "context": "positional_embedding has shape"}
    assert reasons.get(name, "") in err


@pytest.mark.parametrize("suffix", ["pt", "bin", "safetensors"])
def test_damaged_files_are_reported_in_one_line(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"file.{suffix}"
    contents: list[Any] = [b"", b"hi", b"junk" * 99, b"version https://git-lfs.github.com/spec/v1\n"]
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(
            UserError, match=rf"^\S*file\.{suffix}: does not contain plain weights of {QUICK} \(.+\); .+$"
        ):
            OpenClip(QUICK, file)
    if suffix == "safetensors":
        save_file({}, file)
        with pytest.raises(UserError, match="it contains no named tensors"):
            OpenClip(QUICK, file)
        return
    for content in ([1, 2], torch.zeros(3), {"state_dict": [1]}, {"step": 1}, {}):
        torch.save(content, file)
        with pytest.raises(UserError, match=rf"file\.{suffix}: does not contain plain weights of {QUICK} \(.+\); .+$"):
            OpenClip(QUICK, file)

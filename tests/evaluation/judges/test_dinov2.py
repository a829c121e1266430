"""Tests a small DINOv2 from timm against transformers, PIL and an explicit bicubic interpolation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer, _create_vision_transformer
from torch import Tensor

from evaluation.judges.dinov2 import MEAN, PUBLISHED, SIDE, STD, DinoV2, interpolate_positions
from pocketdit.errors import UserError

SMALL = "vit_small_for_tests_dinov2"
WIDTH, DEPTH = 32, 2


@register_model  # type: ignore[untyped-decorator]  # timm does not annotate it
def vit_small_for_tests_dinov2(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Create a DINOv2 with a width of 32 and two blocks."""
    size = {"patch_size": 14, "img_size": 518, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 2, "init_values": 1e-5}
    return _create_vision_transformer(SMALL, pretrained=pretrained, **size | kwargs)


def published_state(grid: int = 37, seed: int = 0) -> dict[str, Tensor]:
    """Return random weights with the tensor names of facebookresearch/dinov2."""
    model = timm.create_model(SMALL, num_classes=0, img_size=14 * grid)
    generator = torch.Generator().manual_seed(seed)
    state = {name: 0.3 * torch.randn(t.shape, generator=generator) for name, t in model.state_dict().items()}
    return state | {"mask_token": torch.zeros(1, WIDTH)}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_file(published_state(), tmp_path / "dinov2.safetensors")
    return tmp_path / "dinov2.safetensors"


def noise(*sizes: tuple[int, int]) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]


def cubic(x: float) -> float:
    """Evaluate Keys' cubic kernel with a = -0.75, as in torch."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def bicubic_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the interpolation matrix (new, old). Its scale includes the offset of 0.1 from facebookresearch/dinov2."""
    matrix = np.zeros((new, old))
    for i in range(new):
        position = (i + 0.5) * old / (new + 0.1) - 0.5
        for j in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
            matrix[i, min(max(j, 0), old - 1)] += cubic(position - j)
    return matrix


def test_positions_are_interpolated_as_published() -> None:
    embedding = torch.randn(1, 1 + 37 * 37, 5, generator=torch.Generator().manual_seed(0))
    weights = bicubic_weights(37, 16)
    expected = np.einsum("ai,bj,ijd->abd", weights, weights, embedding[0, 1:].double().numpy().reshape(37, 37, 5))
    interpolated = interpolate_positions(embedding, 16)
    assert interpolated.shape == (1, 257, 5)
    np.testing.assert_allclose(interpolated[0, 1:].numpy().reshape(16, 16, 5), expected, atol=1e-5)
    torch.testing.assert_close(interpolated[:, 0], embedding[:, 0])
    assert interpolate_positions(interpolated, 16) is interpolated


def test_features_match_transformers(tmp_path: Path) -> None:
    """The weights have one position per patch (16x16), because the two libraries interpolate positions differently."""
    from transformers import Dinov2Config, Dinov2Model

    state = published_state(grid=16)
    save_file(state, tmp_path / "dinov2.safetensors")
    ours = DinoV2(tmp_path / "dinov2.safetensors", SMALL)
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=2, image_size=SIDE, patch_size=14
    )
    theirs = Dinov2Model(config).eval()
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "mask_token": "embeddings.mask_token",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
        **{
            f"blocks.{i}.{timm_name}": f"encoder.layer.{i}.{name}"
            for i in range(DEPTH)
            for timm_name, name in {
                "norm1": "norm1",
                "norm2": "norm2",
                "attn.proj": "attention.o_proj",
                "ls1.gamma": "layer_scale1.lambda1",
                "ls2.gamma": "layer_scale2.lambda1",
                "mlp.fc1": "mlp.fc1",
                "mlp.fc2": "mlp.fc2",
            }.items()
        },
    }
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if stem.endswith("attn.qkv"):
            layer = f"encoder.layer.{stem.split('.')[1]}.attention"
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{layer}.{part}_proj.{kind}"] = piece
        else:
            renamed[names[name] if name in names else f"{names[stem]}.{kind}"] = tensor
    theirs.load_state_dict(renamed)
    images = noise((224, 224), (300, 200))
    with torch.inference_mode():
        expected = theirs(ours.preprocess(images)).last_hidden_state[:, 0].numpy()
    features = ours.encode_images(images)
    assert features.shape == (2, WIDTH)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def test_network_uses_the_published_interpolation(weights: Path) -> None:
    """The interpolation of timm differs from the published one. It uses antialiasing and a scale of 16 / 37."""
    model = DinoV2(weights, SMALL).model
    expected = interpolate_positions(published_state()["pos_embed"], 16)
    torch.testing.assert_close(model.pos_embed.data, expected, rtol=0, atol=0)
    timm_model = timm.create_model(SMALL, num_classes=0, img_size=SIDE)
    from timm.models.vision_transformer import checkpoint_filter_fn

    other = checkpoint_filter_fn(published_state(), timm_model)["pos_embed"]
    assert (other - expected).abs().max() > 0.01


def test_images_are_resized_by_pil_in_float32(weights: Path) -> None:
    image = noise((300, 120))[0]
    (pixels,) = DinoV2(weights, SMALL).preprocess([image])
    channels = [
        np.asarray(Image.fromarray(image[..., i].astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for i in range(3)
    ]
    expected = [(c.clip(0, 255) / 255 - m) / s for c, m, s in zip(channels, MEAN, STD, strict=True)]
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-5)


def test_rounded_resizing_matches_dgm_eval_with_torchvision(weights: Path) -> None:
    from torchvision.transforms import (  # type: ignore[import-untyped]  # torchvision has no py.typed marker
        Compose,
        InterpolationMode,
        Normalize,
        Resize,
        ToTensor,
    )

    theirs = Compose([Resize((SIDE, SIDE), InterpolationMode.BICUBIC), ToTensor(), Normalize(MEAN, STD)])
    image = noise((300, 120))[0]
    rounded, clean = DinoV2(weights, SMALL, clean_resize=False), DinoV2(weights, SMALL)
    torch.testing.assert_close(rounded.preprocess([image])[0], theirs(Image.fromarray(image)), rtol=0, atol=1e-6)
    assert not torch.equal(rounded.preprocess([image]), clean.preprocess([image]))
    assert rounded.backend.version == f"{clean.backend.version} rounded to uint8"


def test_features_do_not_depend_on_batches_or_file_format(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.judges.dinov2._BATCH", 2)
    images = noise((50, 50), (60, 40), (224, 224))
    model = DinoV2(weights, SMALL)
    together = model.encode_images(images)
    np.testing.assert_allclose(together, [model.encode_images([image])[0] for image in images], rtol=1e-4, atol=1e-5)
    assert model.encode_images([]).shape == (0, WIDTH)
    torch.save(published_state(), tmp_path / "dinov2.pth")
    pickled = DinoV2(tmp_path / "dinov2.pth", SMALL)
    np.testing.assert_array_equal(pickled.encode_images(images), together)
    assert pickled.backend.version != model.backend.version


def test_only_the_published_network_yields_dino_fid(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DinoV2(weights, SMALL).backend.published_for == ()
    entries = timm.models._registry._model_entrypoints
    monkeypatch.setitem(entries, PUBLISHED, vit_small_for_tests_dinov2)
    backend = DinoV2(weights).backend
    assert (backend.name, backend.published_for) == ("vit_large_patch14_dinov2", ("dino-fid",))
    assert backend.version.startswith("sha256 ")
    assert "224x224 bicubic" in backend.version


class PrintsWhenLoaded:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_invalid_weights_are_rejected(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="model resnet_of_tests: not a timm model"):
        DinoV2(weights, "resnet_of_tests")
    with pytest.raises(UserError, match=r"missing\.pth: cannot be read .*get model\.safetensors"):
        DinoV2(tmp_path / "missing.pth", SMALL)
    torch.save({"pos_embed": PrintsWhenLoaded()}, tmp_path / "program.pth")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    for name in ("program.pth", "page.pth"):  # torch's error message would advise running the code in the file
        with pytest.raises(
            UserError,
            match=rf"{name}: does not contain plain weights of a DINOv2 model "
            r"\(it is damaged or contains more than tensors\); get",
        ):
            DinoV2(tmp_path / name, SMALL)
    assert "run" not in capsys.readouterr().out.split()
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="does not contain plain weights"):
        DinoV2(tmp_path / "broken.safetensors", SMALL)
    state = published_state()
    save_file({k: v for k, v in state.items() if "norm2" not in k}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"not the weights of this DINOv2 model .*norm2"):
        DinoV2(tmp_path / "part.safetensors", SMALL)
    save_file(state | {"register_tokens": torch.zeros(1, 4, WIDTH)}, tmp_path / "registers.safetensors")
    with pytest.raises(UserError, match="registers"):
        DinoV2(tmp_path / "registers.safetensors", SMALL)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not the weights of this DINOv2 model"):
        DinoV2(tmp_path / "other.safetensors", SMALL)


def test_missing_weights_are_reported_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Hub cannot be reached, and its cache on this machine is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"cannot load its weights .*get model\.safetensors"):
        DinoV2(model="vit_small_patch14_dinov2")

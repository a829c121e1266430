"""Tests the conversion of mmdet's weights to those of transformers against mmdet's tensor names and computations."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, pad, unfold
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from evaluation.judges import mask2former
from evaluation.judges.mask2former import Mask2FormerDetector, load_mmdet
from evaluation.judges.mask2former_weights import NOT_IN_MMDET, from_mmdet, swin_small_config
from pocketdit.errors import UserError

Shape = tuple[int, ...]


def tiny_config() -> Mask2FormerConfig:
    backbone = SwinConfig(
        embed_dim=8,
        depths=[1, 2, 1, 1],
        num_heads=[1, 2, 2, 4],
        window_size=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return Mask2FormerConfig(
        backbone_config=backbone,
        num_labels=80,
        num_queries=7,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=48,
        dim_feedforward=40,
        encoder_layers=2,
        decoder_layers=4,
        num_attention_heads=4,
    )


def weight_and_bias(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def mmdet_shapes(config: Mask2FormerConfig) -> dict[str, Shape]:
    """Return the shapes of all tensors in mmdet 2.x's Mask2Former.

    Its parts are SwinTransformer, MSDeformAttnPixelDecoder and Mask2FormerHead.
    """
    return dict(_shapes(config))


def _shapes(config: Mask2FormerConfig) -> Iterator[tuple[str, Shape]]:
    swin = config.backbone_config
    window, channels = swin.window_size, [swin.embed_dim * 2**stage for stage in range(4)]
    yield from weight_and_bias("backbone.patch_embed.projection", (channels[0], 3, 4, 4))
    yield from weight_and_bias("backbone.patch_embed.norm", (channels[0],))
    for stage, width in enumerate(channels):
        for number in range(swin.depths[stage]):
            block = f"backbone.stages.{stage}.blocks.{number}"
            yield from weight_and_bias(f"{block}.norm1", (width,))
            yield f"{block}.attn.w_msa.relative_position_bias_table", ((2 * window - 1) ** 2, swin.num_heads[stage])
            yield f"{block}.attn.w_msa.relative_position_index", (window**2, window**2)
            yield from weight_and_bias(f"{block}.attn.w_msa.qkv", (3 * width, width))
            yield from weight_and_bias(f"{block}.attn.w_msa.proj", (width, width))
            yield from weight_and_bias(f"{block}.norm2", (width,))
            yield from weight_and_bias(f"{block}.ffn.layers.0.0", (4 * width, width))
            yield from weight_and_bias(f"{block}.ffn.layers.1", (width, 4 * width))
        if stage < 3:
            yield from weight_and_bias(f"backbone.stages.{stage}.downsample.norm", (4 * width,))
            yield f"backbone.stages.{stage}.downsample.reduction.weight", (2 * width, 4 * width)
        yield from weight_and_bias(f"backbone.norm{stage}", (width,))

    width, mask_width, heads = config.feature_size, config.mask_feature_size, config.num_attention_heads
    pixels = "panoptic_head.pixel_decoder"
    for level in range(3):
        yield from weight_and_bias(f"{pixels}.input_convs.{level}.conv", (width, channels[3 - level], 1, 1))
        yield from weight_and_bias(f"{pixels}.input_convs.{level}.gn", (width,))
    for number in range(config.encoder_layers):
        layer = f"{pixels}.encoder.layers.{number}"
        yield from weight_and_bias(f"{layer}.attentions.0.sampling_offsets", (heads * 3 * 4 * 2, width))
        yield from weight_and_bias(f"{layer}.attentions.0.attention_weights", (heads * 3 * 4, width))
        yield from weight_and_bias(f"{layer}.attentions.0.value_proj", (width, width))
        yield from weight_and_bias(f"{layer}.attentions.0.output_proj", (width, width))
        yield from weight_and_bias(f"{layer}.ffns.0.layers.0.0", (config.encoder_feedforward_dim, width))
        yield from weight_and_bias(f"{layer}.ffns.0.layers.1", (width, config.encoder_feedforward_dim))
        yield from weight_and_bias(f"{layer}.norms.0", (width,))
        yield from weight_and_bias(f"{layer}.norms.1", (width,))
    yield f"{pixels}.level_encoding.weight", (3, width)
    yield f"{pixels}.lateral_convs.0.conv.weight", (width, channels[0], 1, 1)
    yield from weight_and_bias(f"{pixels}.lateral_convs.0.gn", (width,))
    yield f"{pixels}.output_convs.0.conv.weight", (width, width, 3, 3)
    yield from weight_and_bias(f"{pixels}.output_convs.0.gn", (width,))
    yield from weight_and_bias(f"{pixels}.mask_feature", (mask_width, width, 1, 1))

    for number in range(config.decoder_layers - 1):
        layer = f"panoptic_head.transformer_decoder.layers.{number}"
        for attention in range(2):
            yield f"{layer}.attentions.{attention}.attn.in_proj_weight", (3 * width, width)
            yield f"{layer}.attentions.{attention}.attn.in_proj_bias", (3 * width,)
            yield from weight_and_bias(f"{layer}.attentions.{attention}.attn.out_proj", (width, width))
        yield from weight_and_bias(f"{layer}.ffns.0.layers.0.0", (config.dim_feedforward, width))
        yield from weight_and_bias(f"{layer}.ffns.0.layers.1", (width, config.dim_feedforward))
        for norm in range(3):
            yield from weight_and_bias(f"{layer}.norms.{norm}", (width,))
    yield from weight_and_bias("panoptic_head.transformer_decoder.post_norm", (width,))
    yield "panoptic_head.query_embed.weight", (config.num_queries, width)
    yield "panoptic_head.query_feat.weight", (config.num_queries, width)
    yield "panoptic_head.level_embed.weight", (3, width)
    yield from weight_and_bias("panoptic_head.cls_embed", (config.num_labels + 1, width))
    yield from weight_and_bias("panoptic_head.mask_embed.0", (width, width))
    yield from weight_and_bias("panoptic_head.mask_embed.2", (width, width))
    yield from weight_and_bias("panoptic_head.mask_embed.4", (mask_width, width))


def random_state(config: Mask2FormerConfig) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in mmdet_shapes(config).items()}


def converted(config: Mask2FormerConfig, state: dict[str, Tensor]) -> Mask2FormerForUniversalSegmentation:
    model = Mask2FormerForUniversalSegmentation(config).eval()
    result = from_mmdet(state, model.state_dict().keys())
    report = model.load_state_dict(result, strict=False)
    assert set(report.missing_keys) == NOT_IN_MMDET
    assert report.unexpected_keys == []
    return model


def test_all_weights_of_the_real_network_are_converted() -> None:
    config = swin_small_config()
    with torch.device("meta"):
        model = Mask2FormerForUniversalSegmentation(config)
        state = {name: torch.empty(shape) for name, shape in mmdet_shapes(config).items()}
    result = from_mmdet(state, model.state_dict().keys())
    expected = {name: weight.shape for name, weight in model.state_dict().items() if name not in NOT_IN_MMDET}
    assert {name: weight.shape for name, weight in result.items()} == expected
    # The conversion drops the index tensor of each of the 24 Swin blocks. It splits the qkv weights and biases of these
    # blocks, and of self-attention in the 9 decoder layers, into three tensors each.
    assert len(mmdet_shapes(config)) - 24 + 2 * 2 * 24 + 9 * 2 * 2 == len(result)


def test_no_value_is_lost_or_duplicated() -> None:
    state = random_state(tiny_config())
    result = from_mmdet(state, Mask2FormerForUniversalSegmentation(tiny_config()).state_dict().keys())
    before = torch.cat([value.flatten() for name, value in state.items() if "relative_position_index" not in name])
    after = torch.cat([value.flatten() for value in result.values()])
    assert torch.equal(before.sort().values, after.sort().values)


@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
def test_patch_merging_matches_mmdet(size: tuple[int, int]) -> None:
    state = random_state(tiny_config())
    module = converted(tiny_config(), state).model.pixel_level_module.encoder.swin.encoder.layers[1].downsample
    weight = {name: state[f"backbone.stages.1.downsample.{name}"] for name in ("norm.weight", "norm.bias")}
    height, width = size
    features = torch.randn(2, height * width, 16)
    # mmdet reshapes the features to an image, pads it on the right and at the bottom, unfolds 2x2 patches, and applies
    # a norm and a linear layer.
    image = pad(features.transpose(1, 2).reshape(2, 16, height, width), (0, width % 2, 0, height % 2))
    patches = unfold(image, kernel_size=2, stride=2).transpose(1, 2)
    merged = linear(
        layer_norm(patches, (64,), weight["norm.weight"], weight["norm.bias"]),
        state["backbone.stages.1.downsample.reduction.weight"],
    )
    torch.testing.assert_close(module(features, size), merged)


def test_window_attention_matches_mmdet() -> None:
    state = random_state(tiny_config())
    module = converted(tiny_config(), state).model.pixel_level_module.encoder.swin.encoder.layers[1].blocks[0].attention
    prefix, heads, side = "backbone.stages.1.blocks.0.attn.w_msa", 2, 3
    windows = torch.randn(5, side * side, 16)
    qkv = linear(windows, state[f"{prefix}.qkv.weight"], state[f"{prefix}.qkv.bias"])
    query, key, value = qkv.reshape(5, side * side, 3, heads, 8).permute(2, 0, 3, 1, 4)
    # mmdet's index into the bias table is c(a) + c(N - 1 - b), with c(row, column) = row (2 side - 1) + column.
    corner = ((2 * side - 1) * torch.arange(side)[:, None] + torch.arange(side)).flatten()
    index = (corner[:, None] + corner).flip(1)
    bias = state[f"{prefix}.relative_position_bias_table"][index].permute(2, 0, 1)
    weights = (query * 8**-0.5 @ key.transpose(-2, -1) + bias).softmax(dim=-1)
    mixed = (weights @ value).transpose(1, 2).reshape(5, side * side, 16)
    expected = linear(mixed, state[f"{prefix}.proj.weight"], state[f"{prefix}.proj.bias"])
    torch.testing.assert_close(module(windows)[0], expected)


def test_query_attention_matches_mmdet() -> None:
    state = random_state(tiny_config())
    module = converted(tiny_config(), state).model.transformer_module.decoder.layers[1].self_attn
    # mmdet wraps torch's MultiheadAttention.
    reference = nn.MultiheadAttention(32, 4).eval()
    prefix = "panoptic_head.transformer_decoder.layers.1.attentions.1.attn."
    reference.load_state_dict({name.removeprefix(prefix): w for name, w in state.items() if name.startswith(prefix)})
    queries, positions = torch.randn(7, 1, 32), torch.randn(7, 1, 32)
    expected = reference(queries + positions, queries + positions, queries)[0]
    torch.testing.assert_close(module(queries, position_embeddings=positions)[0], expected)


@pytest.mark.parametrize("name", ["backbone.norm3.bias", "panoptic_head.cls_embed.weight"])
def test_missing_weight_is_reported(name: str) -> None:
    state = random_state(tiny_config())
    del state[name]
    first = r"\S*(stage4\.bias|class_predictor\.weight)"
    with pytest.raises(UserError, match=rf"1 tensor missing \(the first is {first}\)"):
        from_mmdet(state, Mask2FormerForUniversalSegmentation(tiny_config()).state_dict().keys())


@pytest.mark.parametrize("name", ["backbone.conv1.weight", "backbone.stages.3.blocks.9.norm1.weight"])
def test_unknown_weight_is_reported(name: str) -> None:
    state = random_state(tiny_config()) | {name: torch.zeros(8)}
    first = rf"({re.escape(name)}|\S+\.9\.layernorm_before)"
    with pytest.raises(UserError, match=rf"1 tensor unknown \(the first is {first}"):
        from_mmdet(state, Mask2FormerForUniversalSegmentation(tiny_config()).state_dict().keys())


def save_checkpoint(path: Path, **extra: object) -> Path:
    torch.save(
        {
            "meta": {"CLASSES": ("person",), "mmdet_version": "2.24.1"},
            "state_dict": random_state(tiny_config()),
            **extra,
        },
        path,
    )
    return path


@pytest.mark.parametrize("published", [False, True])
def test_checkpoint_is_recognized_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    path = save_checkpoint(tmp_path / "mask2former-743b7d99.pth")
    monkeypatch.setattr(mask2former, "swin_small_config", tiny_config)
    if published:
        monkeypatch.setattr(mask2former, "_PUBLISHED_SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    judge = Mask2FormerDetector(path)
    assert judge.backend.published_for == (("geneval",) if published else ())
    assert judge.backend.name == f"mask2former-swin-s ({'mmdet' if published else 'unknown weights'})"
    reference = converted(tiny_config(), random_state(tiny_config())).state_dict()
    loaded = judge.model.state_dict()
    assert all(torch.equal(loaded[name], reference[name]) for name in reference.keys() - NOT_IN_MMDET)
    assert len(judge.detect(np.zeros((40, 40, 3), np.uint8))) == 100


def test_checkpoint_with_other_objects_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not contain plain weights of mmdet's Mask2Former"):
        load_mmdet(save_checkpoint(tmp_path / "a.pth", optimizer=Path("anything")), tiny_config())


def test_invalid_checkpoints_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read .* get mask2former_swin-s"):
        Mask2FormerDetector(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="does not contain plain weights of mmdet's Mask2Former"):
        load_mmdet(tmp_path / "text.pth", tiny_config())
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="tensors missing"):
        load_mmdet(tmp_path / "other.pth", tiny_config())

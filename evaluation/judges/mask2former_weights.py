"""Converts weights of Mask2Former (Cheng et al. 2022, arXiv 2112.01527) from mmdet 2.x to transformers.

Both libraries implement the same network with different tensor names. In addition, mmdet's Swin backbone stores the
query, key and value projections of an attention layer in one matrix, and orders the inputs of patch merging layers
differently.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from pocketdit.counts import counted
from pocketdit.errors import UserError

_ENCODER = "model.pixel_level_module.encoder."
_DECODER = "model.pixel_level_module.decoder."
_HEAD = "model.transformer_module."

# mmdet's name -> transformers' name. "[qkv]" expands to three names, among which the rows of the tensor are divided.
_RULES = [
    (re.compile(rule), target)
    for rule, target in (
        (r"backbone\.patch_embed\.projection\.(\w+)", _ENCODER + r"swin.embeddings.patch_embeddings.projection.\1"),
        (r"backbone\.patch_embed\.norm\.(\w+)", _ENCODER + r"swin.embeddings.norm.\1"),
        *(
            (rf"backbone\.stages\.(\d+)\.blocks\.(\d+)\.{block}", _ENCODER + rf"swin.encoder.layers.\1.blocks.\2.{to}")
            for block, to in (
                (r"norm1\.(\w+)", r"layernorm_before.\3"),
                (r"norm2\.(\w+)", r"layernorm_after.\3"),
                (r"attn\.w_msa\.qkv\.(\w+)", r"attention.[qkv]_proj.\3"),
                (r"attn\.w_msa\.proj\.(\w+)", r"attention.o_proj.\3"),
                (
                    r"attn\.w_msa\.relative_position_bias_table",
                    r"attention.relative_position_bias.relative_position_bias_table",
                ),
                (r"ffn\.layers\.0\.0\.(\w+)", r"mlp.fc1.\3"),
                (r"ffn\.layers\.1\.(\w+)", r"mlp.fc2.\3"),
            )
        ),
        (
            r"backbone\.stages\.(\d+)\.downsample\.(norm|reduction)\.(\w+)",
            _ENCODER + r"swin.encoder.layers.\1.downsample.\2.\3",
        ),
        *(
            (rf"backbone\.norm{stage}\.(\w+)", _ENCODER + rf"hidden_states_norms.stage{stage + 1}.\1")
            for stage in range(4)
        ),
        (r"panoptic_head\.pixel_decoder\.input_convs\.(\d+)\.conv\.(\w+)", _DECODER + r"input_projections.\1.0.\2"),
        (r"panoptic_head\.pixel_decoder\.input_convs\.(\d+)\.gn\.(\w+)", _DECODER + r"input_projections.\1.1.\2"),
        *(
            (rf"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.{layer}", _DECODER + rf"encoder.layers.\1.{to}")
            for layer, to in (
                (
                    r"attentions\.0\.(sampling_offsets|attention_weights|value_proj|output_proj)\.(\w+)",
                    r"self_attn.\2.\3",
                ),
                (r"norms\.0\.(\w+)", r"self_attn_layer_norm.\2"),
                (r"ffns\.0\.layers\.0\.0\.(\w+)", r"fc1.\2"),
                (r"ffns\.0\.layers\.1\.(\w+)", r"fc2.\2"),
                (r"norms\.1\.(\w+)", r"final_layer_norm.\2"),
            )
        ),
        (r"panoptic_head\.pixel_decoder\.level_encoding\.weight", _DECODER + r"level_embed"),
        (r"panoptic_head\.pixel_decoder\.lateral_convs\.0\.conv\.(\w+)", _DECODER + r"adapter_1.0.\1"),
        (r"panoptic_head\.pixel_decoder\.lateral_convs\.0\.gn\.(\w+)", _DECODER + r"adapter_1.1.\1"),
        (r"panoptic_head\.pixel_decoder\.output_convs\.0\.conv\.(\w+)", _DECODER + r"layer_1.0.\1"),
        (r"panoptic_head\.pixel_decoder\.output_convs\.0\.gn\.(\w+)", _DECODER + r"layer_1.1.\1"),
        (r"panoptic_head\.pixel_decoder\.mask_feature\.(\w+)", _DECODER + r"mask_projection.\1"),
        *(
            (rf"panoptic_head\.transformer_decoder\.layers\.(\d+)\.{layer}", _HEAD + rf"decoder.layers.\1.{to}")
            for layer, to in (
                (r"attentions\.0\.attn\.in_proj_(\w+)", r"cross_attn.in_proj_\2"),
                (r"attentions\.0\.attn\.out_proj\.(\w+)", r"cross_attn.out_proj.\2"),
                (r"norms\.0\.(\w+)", r"cross_attn_layer_norm.\2"),
                (r"attentions\.1\.attn\.in_proj_(\w+)", r"self_attn.[qkv]_proj.\2"),
                (r"attentions\.1\.attn\.out_proj\.(\w+)", r"self_attn.out_proj.\2"),
                (r"norms\.1\.(\w+)", r"self_attn_layer_norm.\2"),
                (r"ffns\.0\.layers\.0\.0\.(\w+)", r"fc1.\2"),
                (r"ffns\.0\.layers\.1\.(\w+)", r"fc2.\2"),
                (r"norms\.2\.(\w+)", r"final_layer_norm.\2"),
            )
        ),
        (r"panoptic_head\.transformer_decoder\.post_norm\.(\w+)", _HEAD + r"decoder.layernorm.\1"),
        (r"panoptic_head\.query_embed\.weight", _HEAD + r"queries_embedder.weight"),
        (r"panoptic_head\.query_feat\.weight", _HEAD + r"queries_features.weight"),
        (r"panoptic_head\.level_embed\.weight", _HEAD + r"level_embed.weight"),
        *(
            (
                rf"panoptic_head\.mask_embed\.{2 * layer}\.(\w+)",
                _HEAD + rf"decoder.mask_predictor.mask_embedder.{layer}.0.\1",
            )
            for layer in range(3)
        ),
        (r"panoptic_head\.cls_embed\.(\w+)", r"class_predictor.\1"),
    )
]

# transformers computes the relative position index from the window size.
_COMPUTED = re.compile(r"backbone\.stages\.\d+\.blocks\.\d+\.attn\.w_msa\.relative_position_index")

# Weights that only transformers has: Swin's final norm, which the segmenter does not use, and the class weights of the
# loss.
NOT_IN_MMDET = frozenset(
    {_ENCODER + "swin.layernorm.weight", _ENCODER + "swin.layernorm.bias", "criterion.empty_weight"}
)


def swin_small_config() -> Any:
    """Return transformers' configuration of mmdet's mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco.

    The model has 80 classes and 100 queries.
    """
    from transformers import Mask2FormerConfig, SwinConfig

    backbone = SwinConfig(
        image_size=224,
        patch_size=4,
        embed_dim=96,
        depths=[2, 2, 18, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    # decoder_layers includes the prediction from the queries alone, before the first of the nine layers.
    return Mask2FormerConfig(backbone_config=backbone, num_labels=80, num_queries=100, decoder_layers=10)


def from_mmdet(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Convert weights from mmdet 2.x's names to transformers' names.

    Args:
        state: mmdet's weights.
        names: Names of the weights in transformers' model. All of them except ``NOT_IN_MMDET`` must be converted.

    Raises:
        UserError: A weight is missing or unknown.
    """
    converted: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, tensor in state.items():
        if _COMPUTED.fullmatch(name):
            continue
        target = _target(name)
        if target is None:
            unknown.append(name)
        elif "[qkv]" in target:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                converted[target.replace("[qkv]", letter)] = part
        else:
            converted[target] = _reorder_patch_merging(tensor) if ".downsample." in name else tensor
    unknown += sorted(converted.keys() - set(names))
    missing = sorted(set(names) - converted.keys() - NOT_IN_MMDET)
    for problem, weights in (("missing", missing), ("unknown", unknown)):
        if weights:
            raise UserError(
                f"not the weights of this Mask2Former in mmdet 2.x's format: "
                f"{counted(len(weights), 'tensor')} {problem} (the first is {weights[0]})"
            )
    return converted


def _target(name: str) -> str | None:
    for rule, target in _RULES:
        if match := rule.fullmatch(name):
            return match.expand(target)
    return None


def _reorder_patch_merging(tensor: Tensor) -> Tensor:
    """Reorder the inputs (..., 4 C) of a patch merging layer from mmdet's order to transformers' order.

    mmdet unfolds the 2x2 patches, so its inputs are ordered by channel, row and column. transformers, like the authors
    of Swin, concatenates four images of C channels, so its inputs are ordered by column, row and channel.
    """
    *rest, inputs = tensor.shape
    patches = tensor.reshape(*rest, inputs // 4, 2, 2)  # ..., channel, row, column
    return patches.movedim((-1, -2), (-3, -2)).reshape(tensor.shape).contiguous()

"""Reads the published files of mPLUG, and checks whether they are the ones that DPG-Bench uses."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from evaluation.judges import weight_files
from pocketdit.counts import counted
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

WEIGHTS, VOCABULARY = "pytorch_model.bin", "vocab.txt"
CONFIG, BERT_CONFIG = "config.yaml", "config_bert.json"
PUBLISHED_FOLDER = "mplug_visual-question-answering_coco_large_en"
SOURCE = f"get the complete folder from ModelScope: damo/{PUBLISHED_FOLDER}"

# Tensors in the published file that are not needed for answering questions. Descriptions are mapped to regular
# expressions that match the tensors' names.
IGNORED: Mapping[str, str] = {
    "EMA copies of the weights, used for distillation during training": r"\w+_(encoder|decoder|fc|norm)_m\.",
    "the text tower of CLIP": r"visual_encoder\.(transformer|token_embedding|ln_final)\."
    r"|visual_encoder\.(positional_embedding|text_projection|logit_scale)$",
    "CLIP's projection into the space shared with text": r"visual_encoder\.visual\.proj$",
    "constants: 0, 1, 2, ...": r".*\.position_ids$",
    "heads from BERT's pre-training": r".*\.pooler\.",
}


@dataclass(frozen=True)
class MPlugSizes:
    """Sizes and decoding settings of mPLUG. The defaults are those of the large model.

    Attributes:
        image: Side of the images in pixels.
        patch: Side of a patch in pixels.
        visual_width: Width of the vision transformer.
        visual_layers: Number of layers in the vision transformer.
        width: Width of the text layers.
        heads: Number of attention heads in each text layer.
        inner: Width of the feed-forward networks in the text layers.
        vocabulary: Number of tokens.
        positions: Maximum number of positions.
        kinds: Number of token types.
        eps: Epsilon of the LayerNorms.
        text_layers: Number of layers in the text encoder.
        fusion_first: Index of the first fusion layer in use.
        fusion_layers: Number of fusion layers in use.
        stride: Distance between joint layers (see ``FusionEncoder``).
        decoder_layers: Number of layers in the decoder.
        beams: Number of beams in the beam search.
        min_tokens: Minimum number of tokens in an answer.
        max_tokens: Maximum number of tokens in an answer, including the end token.
    """

    image: int = 504
    patch: int = 14
    visual_width: int = 1024
    visual_layers: int = 24
    width: int = 768
    heads: int = 12
    inner: int = 3072
    vocabulary: int = 30522
    positions: int = 512
    kinds: int = 2
    eps: float = 1e-12
    text_layers: int = 6
    fusion_first: int = 6
    fusion_layers: int = 6
    stride: int = 6
    decoder_layers: int = 12
    beams: int = 5
    min_tokens: int = 1
    max_tokens: int = 10


def read_sizes(folder: Path) -> MPlugSizes:
    """Read the sizes from config.yaml and config_bert.json in a folder. The defaults are those of the large model.

    Raises:
        UserError: A file is missing or does not describe an mPLUG model.
    """
    general = _read(folder / CONFIG, yaml.safe_load)
    bert = _read(folder / BERT_CONFIG, json.loads)
    default = MPlugSizes()
    try:
        depth, fusion = int(bert["num_hidden_layers"]), int(bert["fusion_layers"])
        sizes = MPlugSizes(
            image=int(general.get("image_res", default.image)),
            patch=int(general.get("clip_vision_patch_size", default.patch)),
            visual_width=int(general.get("clip_vision_width", default.visual_width)),
            visual_layers=int(general.get("clip_vision_layers", default.visual_layers)),
            width=int(bert["hidden_size"]),
            heads=int(bert["num_attention_heads"]),
            inner=int(bert["intermediate_size"]),
            vocabulary=int(bert["vocab_size"]),
            positions=int(bert["max_position_embeddings"]),
            kinds=int(bert["type_vocab_size"]),
            eps=float(bert["layer_norm_eps"]),
            text_layers=int(bert["text_encoder_layers"]),
            fusion_first=max(0, depth - fusion),
            fusion_layers=min(depth, fusion),
            # The published code has the same default, which is larger than the number of layers.
            stride=int(bert.get("stride_layer", 100)),
            decoder_layers=int(bert["text_decode_layers"]),
            beams=int(general.get("beam_size", default.beams)),
            min_tokens=int(general.get("min_length", default.min_tokens)),
            max_tokens=int(general.get("max_length", default.max_tokens)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder}: not the configuration of an mPLUG model ({type(error).__name__}: {error}); {SOURCE}"
        ) from error
    if bert.get("hidden_act", "gelu") != "gelu" or sizes.width == sizes.visual_width:
        raise UserError(f"{folder}: unsupported variant of mPLUG; only the large model is supported; {SOURCE}")
    return sizes


def _read(path: Path, parse: Any) -> dict[str, Any]:
    try:
        settings = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {SOURCE}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be parsed ({str(error).splitlines()[0]}); {SOURCE}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: must contain a mapping of settings; {SOURCE}")
    return settings


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors in a published file, except for those that ``IGNORED`` matches, under the model's names.

    Raises:
        UserError: The file is missing, cannot be read, or contains more than weights.
    """
    content = weight_files.read_weights(path, "mPLUG-large", SOURCE)
    for key in ("model", "module"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: does not contain a dictionary of tensors; {SOURCE}")
    named = {re.sub(r"^(module\.|model\.)+", "", name): tensor for name, tensor in content.items()}
    ignored = re.compile("|".join(IGNORED.values()))
    return {name: tensor for name, tensor in named.items() if not ignored.match(name)}


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], sizes: MPlugSizes, path: Path) -> None:
    """Load ``weights`` into ``model``.

    Both must have the same tensors, except for the unused fusion layers in the published file, which are skipped.

    Raises:
        UserError: Tensors are missing or unknown, or have different shapes.
    """
    unused = tuple(f"fusion_encoder.encoder.layer.{i}." for i in range(sizes.fusion_first))
    state = {name: tensor for name, tensor in weights.items() if not name.startswith(unused)}
    head = "text_decoder.cls.predictions"
    # Each of these tensors has two names in the published model. A file may contain either one.
    for copy, original in (
        (f"{head}.decoder.bias", f"{head}.bias"),
        (f"{head}.bias", f"{head}.decoder.bias"),
        (f"{head}.decoder.weight", "text_decoder.bert.embeddings.word_embeddings.weight"),
    ):
        if copy not in state and original in state:
            state[copy] = state[original]
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    mismatched = sorted(n for n in expected.keys() & state.keys() if expected[n].shape != state[n].shape)
    for names, problem in ((missing, "missing"), (unknown, "unknown"), (mismatched, "of a different shape")):
        if names:
            raise UserError(
                f"{path}: not the weights of mPLUG-large: {counted(len(names), 'tensor')} {problem} (the first "
                f"is {names[0]}); {SOURCE}"
            )
    model.load_state_dict(state)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {SOURCE}") from error


def is_published(sizes: MPlugSizes, folder_name: str, digest: str, sha256: str | None) -> bool:
    """Return whether the weights appear to be those that DPG-Bench uses.

    The sizes must match, and so must the SHA-256 or, if ``sha256`` is None, the folder's name. ``sha256`` is the value
    stated by the publisher, so a match identifies the file. A folder's name proves nothing, but results contain the
    digest, so that the file can be checked later.
    """
    identified = folder_name == PUBLISHED_FOLDER if sha256 is None else digest == sha256.lower()
    return sizes == MPlugSizes() and identified

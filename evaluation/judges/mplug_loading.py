"""The published files of mPLUG: their sizes, their weights, and whether they are those that DPG-Bench uses."""

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from pocketdit.errors import UserError
from pocketdit.files import sha256_of

WEIGHTS, VOCABULARY = "pytorch_model.bin", "vocab.txt"
CONFIG, BERT_CONFIG = "config.yaml", "config_bert.json"
PUBLISHED_FOLDER = "mplug_visual-question-answering_coco_large_en"
SOURCE = f"get the whole folder from ModelScope: damo/{PUBLISHED_FOLDER}"

# Part of the published file and of no use in answering.
IGNORED: Mapping[str, str] = {
    "averaged copies of the weights, which training distils from": r"\w+_(encoder|decoder|fc|norm)_m\.",
    "the text half of CLIP": r"visual_encoder\.(transformer|token_embedding|ln_final)\."
    r"|visual_encoder\.(positional_embedding|text_projection|logit_scale)$",
    "CLIP's projection into the space it shares with text": r"visual_encoder\.visual\.proj$",
    "constants: 0, 1, 2, ...": r".*\.position_ids$",
    "heads of BERT's pre-training": r".*\.pooler\.",
}


@dataclass(frozen=True)
class MPlugSizes:
    """Sizes of mPLUG, and how it answers. The defaults are the large model's for visual questions.

    picture: side in pixels. fusion_first: number of the first fusion layer in use. stride: see ``FusionEncoder``.
    least, most: tokens of an answer, the end mark included in ``most``.
    """

    picture: int = 504
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
    least: int = 1
    most: int = 10


def read_sizes(folder: Path) -> MPlugSizes:
    """Sizes from ``folder``/config.yaml and config_bert.json; what they do not say is as in the large model.

    Raises:
        UserError: a file is missing or not of this kind.
    """
    general = _read(folder / CONFIG, yaml.safe_load)
    bert = _read(folder / BERT_CONFIG, json.loads)
    usual = MPlugSizes()
    try:
        depth, fusion = int(bert["num_hidden_layers"]), int(bert["fusion_layers"])
        sizes = MPlugSizes(
            picture=int(general.get("image_res", usual.picture)),
            patch=int(general.get("clip_vision_patch_size", usual.patch)),
            visual_width=int(general.get("clip_vision_width", usual.visual_width)),
            visual_layers=int(general.get("clip_vision_layers", usual.visual_layers)),
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
            # The code's own default, where the file does not say: larger than any depth.
            stride=int(bert.get("stride_layer", 100)),
            decoder_layers=int(bert["text_decode_layers"]),
            beams=int(general.get("beam_size", usual.beams)),
            least=int(general.get("min_length", usual.least)),
            most=int(general.get("max_length", usual.most)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder}: not the configuration of mPLUG ({type(error).__name__}: {error}); {SOURCE}"
        ) from error
    if bert.get("hidden_act", "gelu") != "gelu" or sizes.width == sizes.visual_width:
        raise UserError(f"{folder}: a kind of mPLUG that is not supported, only the large one is; {SOURCE}")
    return sizes


def _read(path: Path, parse: Any) -> dict[str, Any]:
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {SOURCE}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: does not parse ({str(error).splitlines()[0]}); {SOURCE}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no settings; {SOURCE}")
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a published file under the model's own names, without what ``IGNORED`` names.

    Raises:
        UserError: the file is missing, cannot be read, or holds more than weights.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {SOURCE}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read as weights ({reason}); {SOURCE}") from error
    for key in ("model", "module"):
        if isinstance(stored, dict) and isinstance(stored.get(key), dict):
            stored = stored[key]
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise UserError(f"{path}: holds no table of tensors; {SOURCE}")
    named = {re.sub(r"^(module\.|model\.)+", "", name): tensor for name, tensor in stored.items()}
    ignored = re.compile("|".join(IGNORED.values()))
    return {name: tensor for name, tensor in named.items() if not ignored.match(name)}


def fill(model: torch.nn.Module, weights: Mapping[str, Tensor], sizes: MPlugSizes, path: Path) -> None:
    """Copies ``weights`` into ``model``: every one of its tensors is filled, and none of ``weights`` is left over.

    Fusion layers before the first in use are in the published file and left out.

    Raises:
        UserError: tensors are missing, unknown, or of other shapes.
    """
    unused = tuple(f"fusion_encoder.encoder.layer.{i}." for i in range(sizes.fusion_first))
    table = {name: tensor for name, tensor in weights.items() if not name.startswith(unused)}
    head = "text_decoder.cls.predictions"
    # One tensor under two names in the published model; a file may have either.
    for copy, original in (
        (f"{head}.decoder.bias", f"{head}.bias"),
        (f"{head}.bias", f"{head}.decoder.bias"),
        (f"{head}.decoder.weight", "text_decoder.bert.embeddings.word_embeddings.weight"),
    ):
        if copy not in table and original in table:
            table[copy] = table[original]
    wanted = model.state_dict()
    missing, unknown = sorted(wanted.keys() - table.keys()), sorted(table.keys() - wanted.keys())
    other = [name for name in wanted.keys() & table.keys() if wanted[name].shape != table[name].shape]
    for names, what in ((missing, "missing"), (unknown, "unknown"), (sorted(other), "of another shape")):
        if names:
            raise UserError(
                f"{path}: not the weights of mPLUG for visual questions: {len(names)} tensors are {what}, the first "
                f"is {names[0]}; {SOURCE}"
            )
    model.load_state_dict(table)


def digest_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal digits; ``UserError`` where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {SOURCE}") from error


def is_published(sizes: MPlugSizes, folder_name: str, digest: str, sha256: str | None) -> bool:
    """Whether these can be the weights that DPG-Bench uses: its sizes, and its sha256 or else its name.

    What is known: the sizes, and that every tensor landed. ``sha256``, where it is given, is what the user read at
    the source, so it proves that the file is the one found there. The name of a folder proves nothing; the digest
    that every result carries lets it be compared later.
    """
    identified = folder_name == PUBLISHED_FOLDER if sha256 is None else digest == sha256.lower()
    return sizes == MPlugSizes() and identified

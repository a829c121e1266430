"""Map the weights of the training form one to one to the weights of the mobile form.

Names are the same, except that the hidden size is removed from the names of parameters that the training form stores
separately for each width:

    time.HIDDEN.*                time.*
    *.tables.HIDDEN.offsets      *.table
    final_tables.HIDDEN.offsets  final_table

``text.*`` are the weights of the text projection. Matrices only gain axes of size 1, and convolutions do not change, so
a quantized weight has the same palette in both forms. Two constants are folded into other parameters: the softmax scale
into the weight and bias of each query norm, and the 1 of adaLN's ``1 + scale`` into the tables.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from pocketdit.backbones.spec import BackboneSpec

TEXT_PREFIX = "text."
"""Prefix of the names of the text projection's weights."""

_RULES = (
    (re.compile(r"^time\.\d+\."), "time."),
    (re.compile(r"\btables\.\d+\.offsets$"), "table"),
    (re.compile(r"^final_tables\.\d+\.offsets$"), "final_table"),
)
# Indices of the scales among a table's rows. A block's table contains (shift, scale, gate) twice, and the final table
# contains (shift, scale).
_SCALE_ROWS = {6: (1, 4), 2: (1,)}


def mobile_name(training_name: str) -> str:
    """Return a weight's name in the mobile form, given its name in the training form."""
    for pattern, replacement in _RULES:
        training_name = pattern.sub(replacement, training_name)
    return training_name


def mobile_weights(weights: Mapping[str, Tensor], spec: BackboneSpec) -> dict[str, Tensor]:
    """Convert the state dict of a standalone network to the mobile form. Matrices are views of the originals."""
    return {mobile_name(name): _mobile(name, value, spec) for name, value in weights.items()}


def _mobile(name: str, value: Tensor, spec: BackboneSpec) -> Tensor:
    parts = name.split(".")
    if parts[-1] == "offsets":
        return _table(value)
    if name == f"{TEXT_PREFIX}null":
        return value.reshape(1, -1, 1, 1)
    if parts[-2] == "q_norm":
        return (value * (1 / math.sqrt(spec.head_dim))).reshape(-1, 1)
    if parts[-2].endswith("_norm"):
        return value.reshape(-1, 1)
    if name.startswith(f"{TEXT_PREFIX}norm."):
        return value.reshape(-1, 1, 1)
    return value[:, :, None, None] if value.ndim == 2 else value


def _table(offsets: Tensor) -> Tensor:
    """Reshape offsets (rows, D) to (rows * D, 1, 1), and add 1 to the scales."""
    ones = torch.zeros(len(offsets), 1, dtype=offsets.dtype, device=offsets.device)
    ones[list(_SCALE_ROWS[len(offsets)])] = 1
    return (offsets + ones).reshape(-1, 1, 1)

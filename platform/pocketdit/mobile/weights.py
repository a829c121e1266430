"""The training form's weights as the mobile form's: a pure map, one weight to one.

A mobile name is the training form's, but for what belongs to one width there and loses the width's number here:

    time.HIDDEN.*              time.*
    *.tables.HIDDEN.offsets    *.table
    final_tables.HIDDEN.offsets    final_table

``text.*`` is the text projection's. Matrices only gain axes of size one, and convolutions stay as they are, so a
palette of a quantised weight is a palette of the mobile weight. What is folded goes into other parameters: the softmax
scale into weight and bias of the queries' norms, the 1 of adaLN's 1 + scale into the tables.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from pocketdit.backbones.spec import DiTSpec

TEXT = "text."
_RULES = (
    (re.compile(r"^time\.\d+\."), "time."),
    (re.compile(r"\btables\.\d+\.offsets$"), "table"),
    (re.compile(r"^final_tables\.\d+\.offsets$"), "final_table"),
)
# Rows of a table that scale: of (shift, scale, gate) twice in a block, of (shift, scale) at the end.
_SCALES = {6: (1, 4), 2: (1,)}


def mobile_name(training_name: str) -> str:
    """The mobile form's name of a weight of the training form."""
    for pattern, replacement in _RULES:
        training_name = pattern.sub(replacement, training_name)
    return training_name


def training_names(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Mobile name -> training name of every weight."""
    return {mobile_name(name): name for name in weights}


def mobile_weights(weights: Mapping[str, Tensor], spec: DiTSpec) -> dict[str, Tensor]:
    """A standalone network's state dict -> the mobile form's. Matrices are views of the given ones."""
    return {mobile_name(name): _mobile(name, value, spec) for name, value in weights.items()}


def _mobile(name: str, value: Tensor, spec: DiTSpec) -> Tensor:
    parts = name.split(".")
    if parts[-1] == "offsets":
        return _table(value)
    if name == f"{TEXT}null":
        return value.reshape(1, -1, 1, 1)
    if parts[-2] == "q_norm":
        return (value * (1 / math.sqrt(spec.head_dim))).reshape(-1, 1)
    if parts[-2].endswith("_norm"):
        return value.reshape(-1, 1)
    if name.startswith(f"{TEXT}norm."):
        return value.reshape(-1, 1, 1)
    return value[:, :, None, None] if value.ndim == 2 else value


def _table(offsets: Tensor) -> Tensor:
    """(rows, D) -> (rows D, 1, 1)."""
    one = torch.zeros(len(offsets), 1, dtype=offsets.dtype, device=offsets.device)
    one[list(_SCALES[len(offsets)])] = 1
    return (offsets + one).reshape(-1, 1, 1)

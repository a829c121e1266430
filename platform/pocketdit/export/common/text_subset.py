"""Remove text encoders from a network. Training drops encoders independently of each other, so any subset works."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from pocketdit.backbones.build import Backbone, build_network

T = TypeVar("T")
_PER_ENCODER = ("text.project.", "text.norm.")
"""Name prefixes of the layers that exist once per text encoder. The encoder's position follows the prefix."""


def keep_text_encoders(network: Backbone, kept: Sequence[int]) -> Backbone:
    """Return a network that has only the text encoders to keep, and shares the weights of the original network.

    Its output equals the output of the original network if all tokens of the removed encoders are hidden.

    Args:
        network: The network.
        kept: Increasing positions of the text encoders to keep.
    """
    inputs = tuple(network.spec.text_inputs[position] for position in kept)
    with torch.device("meta"):
        smaller = build_network(replace(network.spec, text_inputs=inputs))
    smaller.load_state_dict(keep_layers(network.state_dict(), kept), assign=True)
    return smaller.requires_grad_(False).eval()


def keep_layers(values: Mapping[str, T], kept: Sequence[int]) -> dict[str, T]:
    """Remove the values for layers of removed text encoders, and renumber the remaining layers."""
    renamed = ((_renumbered(name, kept), value) for name, value in values.items())
    return {name: value for name, value in renamed if name is not None}


def _renumbered(name: str, kept: Sequence[int]) -> str | None:
    for prefix in _PER_ENCODER:
        if name.startswith(prefix):
            position, dot, rest = name.removeprefix(prefix).partition(".")
            return f"{prefix}{kept.index(int(position))}{dot}{rest}" if int(position) in kept else None
    return name

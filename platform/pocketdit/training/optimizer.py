"""Builds the configured optimizer for training and for cost estimates, and checks what it supports."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from pocketdit.config.component import Component, build
from pocketdit.config.optimizers import MUON, require_supported
from pocketdit.training.muon import is_muon
from pocketdit.training.schedule_free import is_schedule_free


def build_optimizer(optimizer: Component, parameters: Sequence[Any]) -> Optimizer:
    """Build an optimizer that is ready to take steps.

    Args:
        optimizer: The configuration.
        parameters: Parameters, (name, parameter) pairs, or parameter groups. If they are on the meta device, which has
            no fused kernels, ``fused`` is turned off. This does not change the size of the optimizer state.
    """
    is_meta = any(
        isinstance(value, nn.Parameter) and value.is_meta
        for item in parameters
        for value in (item if isinstance(item, tuple) else (item,))
    )
    if is_meta and optimizer.init_args.get("fused"):
        optimizer = replace(optimizer, init_args={**optimizer.init_args, "fused": False})
    built: Optimizer = build(optimizer, params=parameters)
    if is_schedule_free(built):
        built.train()  # type: ignore[attr-defined]  # keeps the network at the trained weights
    return built


def require_optimizer(optimizer: Component, *features: str) -> None:
    """Raise ``ValueError`` if an optimizer is known not to support a feature (see ``config/optimizers.py``).

    A subclass of ``MuonAdamW`` counts as ``MuonAdamW``.
    """
    class_path = MUON if is_muon(optimizer) else optimizer.class_path
    for feature in features:
        require_supported(class_path, feature)

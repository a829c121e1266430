"""What a teacher promises, whatever is behind it.

Shape letters: B batch, C latent channels, h x w latent sides, N tokens in raster order, F the teacher's feature size.

A teacher is no submodule of the stage that asks it: a student's checkpoint must not hold a teacher's gigabytes.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from pocketdit.config.component import Component


class TeacherOutput(NamedTuple):
    """What a teacher makes of (x_t, t, text)."""

    velocity: Tensor
    """(B, C, h, w), float32: v = noise - x_0, guidance included."""
    features: Tensor
    """(B, N, F), float32: what its last transformer layer gives, of the prediction with text."""


class Teacher(Protocol):
    """A frozen network for the student's own latents, with a text encoder of its own."""

    feature_width: int
    """F."""
    patch_size: int
    """Latent sides of a token: N = h w / patch_size^2."""
    channels: int
    """C."""
    has_few_step: bool
    """Whether it has a few-step LoRA to switch on."""

    def check_latents(self, autoencoder: Component) -> str | None:
        """Why it cannot teach on the latents of this autoencoder of the configuration; None where it can."""
        ...

    def condition(self, captions: Sequence[str]) -> Any:
        """B captions as ``predict`` takes them; a blank one is the unconditional text."""
        ...

    def predict(self, x_t: Tensor, time: Tensor, condition: Any, guidance: float = 1.0) -> TeacherOutput:
        """x_t (B, C, h, w), time (B,) in [0, 1]. ``guidance`` 1 is the text alone. No gradients."""
        ...

    def few_step(self) -> AbstractContextManager[None]:
        """Inside, it is the few-step teacher: the same weights with the few-step LoRA switched on."""
        ...

    def to(self, device: torch.device) -> Self:
        """Moves weights and text encoder; after ``shard``, so that no device holds all of them."""
        ...

    def shard(self, mesh: DeviceMesh) -> None:
        """Divides its weights over the ranks (FSDP2)."""
        ...

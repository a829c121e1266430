"""The protocol of a teacher.

Shape letters: B batch, C latent channels, h x w latent sides, N tokens in raster order, F the teacher's feature size.

A stage must not register its teacher as a submodule, because a student's checkpoint must not contain the teacher's
gigabytes. For this reason, a teacher is not an ``nn.Module`` and has its own ``to`` and ``shard``.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from pocketdit.config.component import Component

FEW_STEP_ADAPTER = "few_step"
"""Name of the LoRA adapter that turns a teacher into a few-step teacher."""


class TeacherOutput(NamedTuple):
    """A teacher's prediction for (x_t, t, text)."""

    velocity: Tensor
    """(B, C, h, w), float32. v = noise - x_0, with guidance."""
    features: Tensor
    """(B, N, F), float32. Output of the last transformer block in the prediction with text (f of Eq. 7)."""


class Teacher(Protocol):
    """A frozen network that predicts velocities in the student's latent space and has its own text encoders.

    Its weights get no gradients and stay in eval mode. The configuration names the class, and its constructor loads
    the weights on the CPU.
    """

    feature_width: int
    """F."""
    patch_size: int
    """Latent positions per side of a token: N = h w / patch_size^2."""
    channels: int
    """C."""
    has_few_step: bool
    """Whether the teacher has a few-step LoRA, so that ``few_step`` can be called."""

    def check_latents(self, autoencoder: Component) -> None:
        """Check that the teacher was trained on the latents of an autoencoder.

        Args:
            autoencoder: The student's autoencoder as configured. ``channels`` is compared separately.

        Raises:
            ConfigError: The teacher was trained on other latents.
        """
        ...

    def condition(self, captions: Sequence[str]) -> Any:
        """Encode captions with the teacher's own text encoders.

        Args:
            captions: B captions. A blank caption is the unconditional text.

        Returns:
            The condition in the teacher's own format, for ``predict``. It can be used for several predictions.
        """
        ...

    def predict(self, x_t: Tensor, time: Tensor, condition: Any, guidance: float = 1.0) -> TeacherOutput:
        """Predict velocity and features without gradients.

        Args:
            x_t: Noisy latents (B, C, h, w).
            time: Times (B,) in [0, 1], where 0 is data.
            condition: The result of ``condition`` for B captions.
            guidance: Scale of classifier-free guidance. 1 is the prediction with text alone.

        Returns:
            Velocity and features, in float32.
        """
        ...

    def few_step(self) -> AbstractContextManager[None]:
        """Return a context in which the few-step LoRA is active, so that ``predict`` is the few-step teacher.

        The base weights are the same, so the few-step teacher needs memory only for the LoRA.

        Raises:
            RunError: The teacher has no few-step LoRA.
        """
        ...

    def to(self, device: torch.device) -> Self:
        """Move the weights and the text encoders to a device in place.

        With FSDP2, this is called after ``shard``, so that no device has to hold all weights.
        """
        ...

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard the weights over the ranks in place with FSDP2. A second call does nothing."""
        ...

"""The protocols that teachers implement.

Shape letters: B = batch, C = latent channels, h x w = latent sides, N = tokens in raster order, F = size of the
teacher's features.

A teacher is not an ``nn.Module``. Otherwise, a stage would register it as a submodule and save its weights in every
checkpoint of the student. It therefore has its own ``to`` and ``shard`` methods.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from pocketdit.config.component import Component
from pocketdit.encoders.contract import TextTokens

FEW_STEP_ADAPTER = "few_step"
"""Name of the LoRA adapter that turns a teacher into a few-step teacher."""


class TeacherOutput(NamedTuple):
    """A teacher's prediction for (x_t, t, text)."""

    velocity: Tensor
    """(B, C, h, w), float32. The velocity v = noise - x_0, with guidance."""
    features: Tensor
    """(B, N, F), float32. The last transformer block's output for the prediction with text (f in Eq. 7)."""


@runtime_checkable
class StorableText(Protocol):
    """A teacher whose text embeddings a data set can store, so that a run need not load the teacher's text encoders.

    This protocol is optional. A teacher that implements it has a constructor that accepts ``load_text``. If
    ``load_text`` is false, ``condition`` is not called.
    """

    @classmethod
    def text_components(cls, **init_args: Any) -> Sequence[Component]:
        """Return the configurations of the text encoders, given the arguments of the constructor."""
        ...

    def condition_on(self, text: Sequence[TextTokens], blank: Sequence[TextTokens]) -> Any:
        """Return the ``condition`` argument of ``predict`` for stored tokens.

        Args:
            text: Each text encoder's tokens of B captions.
            blank: Each text encoder's tokens of the empty caption, with B = 1.
        """
        ...


class Teacher(Protocol):
    """A frozen network that predicts velocities in the student's latent space and has its own text encoders.

    Its weights get no gradients, and its modules stay in eval mode. The class is named in the configuration, and its
    constructor loads the weights on the CPU.

    The class may define ``few_step_arguments``: the names of the constructor's arguments that specify the few-step
    version. These arguments must be optional. A run leaves them out if its stage does not use the few-step version.
    """

    feature_width: int
    """Size of the features, F."""
    patch_size: int
    """Number of latent positions per side of a token: N = h w / patch_size^2."""
    channels: int
    """Number of latent channels, C."""
    has_few_step: bool
    """Whether the teacher has a few-step version, so that ``few_step`` can be called."""

    @classmethod
    def check_latents(cls, autoencoder: Component, **init_args: Any) -> None:
        """Check that the teacher was trained on the latents of an autoencoder, before anything is loaded.

        Args:
            autoencoder: Configuration of the student's autoencoder. The number of channels is checked separately.
            init_args: Arguments of the teacher's constructor.

        Raises:
            ConfigError: The teacher was trained on different latents.
        """
        ...

    def condition(self, captions: Sequence[str]) -> Any:
        """Encode captions with the teacher's own text encoders.

        Args:
            captions: B captions. A blank caption requests the unconditional prediction.

        Returns:
            The ``condition`` argument of ``predict``, in the teacher's own format. It can be reused.
        """
        ...

    def predict(self, x_t: Tensor, time: Tensor, condition: Any, guidance: float = 1.0) -> TeacherOutput:
        """Predict the velocity and the features without gradients.

        Args:
            x_t: Noisy latents (B, C, h, w).
            time: Times (B,) in [0, 1], where 0 is data.
            condition: The result of ``condition`` for B captions.
            guidance: Classifier-free guidance scale. At 1, only the prediction with text is used.

        Returns:
            The velocity and the features, in float32.
        """
        ...

    def few_step(self) -> AbstractContextManager[None]:
        """Return a context manager inside which ``predict`` uses the few-step teacher.

        If the few-step teacher is a LoRA on the same base weights, only the LoRA needs extra memory.

        Raises:
            RunError: The teacher has no few-step version.
        """
        ...

    def to(self, device: torch.device) -> Self:
        """Move the weights and the text encoders to a device in place.

        With FSDP2, call this after ``shard``, so that no single device must store all the weights.
        """
        ...

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard the weights across ranks in place with FSDP2. A second call has no effect."""
        ...

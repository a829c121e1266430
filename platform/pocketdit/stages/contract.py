"""What a run needs from a training stage.

A stage is a ``LightningModule`` that takes ``inputs: StageInputs`` as its first argument, and its own settings
(``stage.init_args`` in YAML) after it. It declares ``Stage`` as a second base class, which supplies defaults for
everything but ``weights``::

    class MyStage(LightningModule, Stage):
        def __init__(self, inputs: StageInputs[Network], my_setting: float = 1.0) -> None: ...
        def training_step(self, batch, batch_idx): ...
        def weights(self): ...
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from torch import Tensor, nn

from pocketdit.config.component import Component
from pocketdit.config.experiment import BaseExperiment, Sampling, Training
from pocketdit.data_contract import DataDescription
from pocketdit.encoders.inputs import Encoders
from pocketdit.training.cost import StageCost

NetworkT = TypeVar("NetworkT", bound=nn.Module, covariant=True)


@dataclass(frozen=True)
class StageInputs(Generic[NetworkT]):
    """The arguments that every stage is built with.

    Attributes:
        network: The network to train, freshly initialized or filled with the weights of ``parents.start``.
        encoders: The frozen autoencoder and text encoders.
        autoencoder: The autoencoder as configured; a teacher is compared with it.
        optimizer: The optimizer as configured; the stage builds it with its own parameters.
        training: Settings that all stages share.
        seed: Seed of every random draw.
        sampling: How previews are sampled; None in a run that trains a decoder.
    """

    network: NetworkT
    encoders: Encoders
    autoencoder: Component
    optimizer: Component
    training: Training
    seed: int
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Preview:
    """Images that show what a stage has learned so far.

    Attributes:
        rows: Images in [-1, 1], (B, 3, H, W), by row label.
        captions: B captions, one per column.
    """

    rows: Mapping[str, Tensor]
    captions: Sequence[str]


class Stage(Protocol):
    """The contract between a run and its stage; only ``weights`` has no default.

    Attributes:
        separate_widths: Whether the stage trains standalone networks of single widths instead of the supernet. Then
            ``parents.start`` is split into one network per width.
    """

    separate_widths: ClassVar[bool] = False

    @classmethod
    def check(cls, experiment: BaseExperiment) -> None:
        """Raise ``ValueError`` or ``ConfigError``, key first, for settings that the stage does not support.

        Called when the configuration is loaded, before anything is built. Unsupported optimizers and strategies belong
        here.
        """

    @classmethod
    def check_data(cls, experiment: BaseExperiment, data: DataDescription) -> None:
        """Raise ``ConfigError`` if the stage cannot train on this data. Called before the stage is built."""

    @classmethod
    def logged_metrics(cls, experiment: BaseExperiment) -> Sequence[str]:
        """Return the names of the metrics that validation logs. ``*`` matches a part that is only known at run time."""
        return ()

    @classmethod
    def cost(cls, experiment: BaseExperiment) -> StageCost | None:
        """Estimate the cost of a training step for ``--plan``; None if the stage has no estimate."""
        return None

    def preview(self, final: bool) -> Preview | None:
        """Make preview images from the EMA weights. Every rank takes part.

        Args:
            final: Whether this is the last preview of the run. Earlier ones may take fewer sampling steps.

        Returns:
            The images, or None if there is nothing to show.
        """
        return None

    def weights(self) -> dict[str, Tensor]:
        """Return the contents of ``weights.safetensors``. Every rank takes part: sharded weights are gathered."""
        ...

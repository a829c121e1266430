"""The interface between a run and its training stage.

A stage is a ``LightningModule`` whose constructor takes ``inputs: StageInputs`` and then the stage's own settings
(``stage.init_args`` in YAML). Its second base class is ``Stage``, which provides defaults for everything except
``weights``::

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
    """The inputs that a run passes to every stage.

    Attributes:
        network: The network to train, either newly initialized or with the weights of ``parents.start``.
        encoders: The frozen autoencoder and text encoders.
        autoencoder: Configuration of the frozen autoencoder. None in a run that trains an autoencoder.
        optimizer: Configuration of the optimizer, which the stage builds for the parameters that it trains.
        training: Settings that all stages share.
        seed: Seed of all random draws.
        sampling: Settings for sampling previews. None in a run that trains a decoder or an autoencoder.
    """

    network: NetworkT
    encoders: Encoders
    autoencoder: Component | None
    optimizer: Component
    training: Training
    seed: int
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Preview:
    """Images that show what a stage has learned so far.

    Attributes:
        rows: Mapping from row labels to images (B, 3, H, W) in [-1, 1].
        captions: B captions, one per column.
    """

    rows: Mapping[str, Tensor]
    captions: Sequence[str]


class Stage(Protocol):
    """The methods that a run calls on its stage. Only ``weights`` has no default.

    Attributes:
        separate_widths: Whether the stage trains one standalone network per width instead of the supernet. If so, the
            network of ``parents.start`` is split by width.
    """

    separate_widths: ClassVar[bool] = False

    @classmethod
    def check(cls, experiment: BaseExperiment) -> None:
        """Raise ``ValueError`` or ``ConfigError`` for settings that the stage does not support.

        This is called when the configuration is loaded, before anything is built. It should also reject unsupported
        optimizers and strategies. The message should start with the key.
        """

    @classmethod
    def check_data(cls, experiment: BaseExperiment, data: DataDescription) -> None:
        """Raise ``ConfigError`` if the stage cannot train on this data, or if its teacher does not match.

        This is called when a run starts, before the encoders and the teacher are loaded.
        """

    @classmethod
    def uses_few_step(cls, experiment: BaseExperiment) -> bool:
        """Return whether the stage uses the few-step version of its teacher. If not, it is not loaded."""
        return True

    @classmethod
    def logged_metrics(cls, experiment: BaseExperiment) -> Sequence[str]:
        """Return the names of the metrics that validation logs. A ``*`` replaces a part that depends on the run."""
        return ()

    @classmethod
    def cost(cls, experiment: BaseExperiment) -> StageCost | None:
        """Estimate the cost of a training step for ``--plan``, or return None if the stage has no estimate."""
        return None

    def preview(self, final: bool) -> Preview | None:
        """Generate preview images from the EMA weights. This is called on every rank.

        Args:
            final: Whether this is the last preview of the run. Earlier previews may use fewer sampling steps.

        Returns:
            The images, or None if there is nothing to show.
        """
        return None

    def weights(self) -> dict[str, Tensor]:
        """Return the contents of ``weights.safetensors``. This is called on every rank to gather sharded weights."""
        ...

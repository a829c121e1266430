"""Functions shared by the stages that train decoders and autoencoders: checks, random windows, and preview samples."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from pocketdit.config.experiment import BaseExperiment
from pocketdit.config.optimizers import OWN_EMA
from pocketdit.training.optimizer import require_optimizer

PREVIEW_COLUMNS = 6


def check_convolutional(experiment: BaseExperiment, network: str, factor: int) -> None:
    """Check the settings of a run that trains a convolutional network on windows of images.

    Args:
        experiment: The configuration.
        network: Name of the network with its article, for messages.
        factor: Pixels per side of a latent position.

    Raises:
        ValueError: The network does not support a setting. The message starts with the key.
    """
    if experiment.training.strategy == "fsdp2":
        raise ValueError(f"training.strategy: fsdp2 is not supported for {network}; use ddp")
    require_optimizer(experiment.optimizer, OWN_EMA)
    if experiment.training.gradient_checkpointing:
        raise ValueError(f"training.gradient_checkpointing: {network} does not support it; set it to false")
    if experiment.stage.init_args.get("crop", 0) % factor:
        raise ValueError(f"stage.init_args.crop must be 0 or a multiple of {factor} pixels")


class Window(NamedTuple):
    """A rectangle of an image or of latents."""

    top: int
    left: int
    height: int
    width: int

    def scaled(self, factor: int) -> Self:
        """Return the same rectangle at a resolution that is ``factor`` times higher."""
        return type(self)(*(factor * number for number in self))

    def cut(self, images: Tensor) -> Tensor:
        """Cut the rectangle out of images (..., H, W)."""
        return images[..., self.top : self.top + self.height, self.left : self.left + self.width]


def random_window(sides: Sequence[int], limit: int, generator: torch.Generator) -> Window:
    """Draw the position of a window.

    Args:
        sides: Height and width of the images.
        limit: Maximum side length of the window, or 0 for complete images.
        generator: Random generator.
    """
    height, width = (min(limit or side, side) for side in sides)
    top, left = (
        int(torch.randint(full - side + 1, (1,), generator=generator))
        for full, side in zip(sides, (height, width), strict=True)
    )
    return Window(top, left, height, width)


def first_validation_samples(stage: LightningModule) -> tuple[list[str], dict[str, Tensor]]:
    """Return the captions and tensors of the first validation samples. With no validation set, both are empty."""
    data: Any = stage.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets this attribute dynamically
    batch: dict[str, Any] = next(iter(data.val_dataloader()), {"captions": []})
    tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
    first = {key: value[:PREVIEW_COLUMNS].to(stage.device) for key, value in tensors.items()}
    return batch["captions"][:PREVIEW_COLUMNS], first

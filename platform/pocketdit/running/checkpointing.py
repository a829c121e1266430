"""Atomic checkpoints, and the weights that are saved with them."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy
from safetensors.torch import save

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.errors import RunError
from pocketdit.files import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints to a temporary file, flush them to disk and rename them; load only tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint. Raises ``RunError`` if the disk is full or cannot be written to."""
        try:
            write_atomically(Path(path), lambda temporary: torch.save(checkpoint, temporary))
        except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError of its zip writer
            raise disk_error(Path(path), error) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Load a checkpoint without unpickling code. Raises ``RunError`` if the file is damaged."""
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            reason = (str(error).splitlines() or ["it is empty"])[0]
            raise RunError(f"{path} cannot be read as a checkpoint ({reason}); start a new run") from error


def disk_error(path: Path, error: BaseException) -> RunError:
    """Return the error for a file that could not be written."""
    return RunError(
        f"could not write {path} ({error}); the previous checkpoint is intact: free some disk space, then run the same "
        f"command with --resume"
    )


class Checkpoints(Callback):
    """Save ``last.ckpt`` and ``weights.safetensors`` every ``every`` optimizer steps and at the end.

    Args:
        folder: The run folder.
        every: Optimizer steps between checkpoints.
        config: The resolved YAML, written into the run folder once training starts: if a checkpoint is resumed, after
            it has been loaded.
    """

    def __init__(self, folder: RunFolder, every: int, config: str) -> None:
        self.folder = folder
        self.every = every
        self.config = config
        self.saved_at = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the configuration."""
        self.saved_at = trainer.global_step
        if trainer.is_global_zero:
            write_atomically(self.folder.config, self.config)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save a checkpoint if one is due and has not been saved at this step."""
        step = trainer.global_step
        if step != self.saved_at and (step % self.every == 0 or step >= trainer.max_steps):
            self.saved_at = step
            self.save(trainer, pl_module)

    def save(self, trainer: Trainer, module: Any) -> None:
        """Save a checkpoint and the weights. Every rank takes part."""
        # "weights_only" False: include the optimizer state.
        if isinstance(trainer.strategy, ModelParallelStrategy):
            trainer.save_checkpoint(self.folder.new_checkpoint, weights_only=False)
            trainer.strategy.barrier("checkpoint written")
            if trainer.is_global_zero:
                self.folder.publish_new_checkpoint()
        else:
            trainer.save_checkpoint(self.folder.checkpoint, weights_only=False)
        weights = module.weights()
        if trainer.is_global_zero:
            try:
                content = save({name: value.detach().cpu().contiguous() for name, value in weights.items()})
                write_atomically(self.folder.weights, content)
            except OSError as error:
                raise disk_error(self.folder.weights, error) from error

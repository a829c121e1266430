"""Saves checkpoints, and the weights that accompany them, atomically."""

from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.artifacts.weights import save_weights
from pocketdit.errors import RunError
from pocketdit.files import damage, require_regular_file, write_atomically
from pocketdit.running.consolidation import read_consolidated
from pocketdit.running.disk import explain_write_errors, save_object
from pocketdit.running.gathering import fail_together
from pocketdit.running.sharded import TRAINING_STATE
from pocketdit.running.sharded_strategy import ShardedStrategy
from pocketdit.tracking.logger import RunLogger


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves checkpoints atomically, and loads only tensors and plain values from them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint. Raises ``RunError`` if the disk is full or the file cannot be written."""
        with explain_write_errors(Path(path)):
            write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Load a checkpoint, which may be sharded, without unpickling code.

        torch writes a zip archive that contains a CRC-32 of every tensor, but does not check it when it loads the
        archive. This method checks it, which takes about half a second per gigabyte.

        Raises:
            RunError: The file is damaged or is not a checkpoint.
        """
        if Path(path).is_dir():
            return read_consolidated(Path(path))
        try:
            require_regular_file(Path(path))
            if not is_zipfile(path):
                raise ValueError("it is not a checkpoint, or it is truncated")
            with ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"the checksum of {damaged} does not match")
            checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # loading a damaged file can raise any exception
            raise unreadable(Path(path), error) from error
        if not isinstance(checkpoint, dict) or not checkpoint.keys() >= {"state_dict", "loops"}:
            raise unreadable(Path(path), ValueError("it does not contain a training state"))
        return checkpoint


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a single-file checkpoint atomically. Raises ``OSError`` if the file cannot be written."""
    write_atomically(path, lambda temporary: save_object(checkpoint, temporary))


def checkpoint_step(path: Path) -> int:
    """Return the step at which a checkpoint was saved. Raises ``RunError`` if the file cannot be read."""
    state = path / TRAINING_STATE if path.is_dir() else path
    try:
        require_regular_file(state)
        return int(torch.load(state, map_location="cpu", mmap=True, weights_only=True)["global_step"])
    except Exception as error:  # loading a damaged file can raise any exception
        raise unreadable(state, error) from error


def unreadable(path: Path, error: Exception) -> RunError:
    """Return the error for a file that cannot be read as a checkpoint."""
    reason = "it is a folder" if path.is_dir() else damage(path, error)
    return RunError(f"{path} cannot be read as a checkpoint ({reason}); copy the file again or start a new run")


def consolidate(folder: RunFolder, to: Path | None = None) -> tuple[int, Path]:
    """Turn the sharded checkpoint of a run into a single file.

    Args:
        folder: The run folder. No other process may train in it.
        to: The file to write. If it is None, the file replaces the sharded checkpoint.

    Returns:
        The step of the checkpoint, and the path of the file.

    Raises:
        RunError: The run has no sharded checkpoint, it is damaged, or the file cannot be written.
    """
    if not folder.checkpoint.is_dir():
        state = "is already a single file" if folder.checkpoint.is_file() else "does not exist"
        raise RunError(f"{folder.checkpoint} {state}, so there is nothing to consolidate")
    if to is not None and to.is_dir():
        raise RunError(f"--to {to}: this is a folder; specify a file")
    checkpoint = read_consolidated(folder.checkpoint)
    if not {"global_step", "loops"} <= checkpoint.keys():
        raise RunError(f"{folder.checkpoint} does not contain a training state; copy the checkpoint again")
    with explain_write_errors(to or folder.checkpoint, "run the same command again; the shards have been kept"):
        write_checkpoint(checkpoint, to or folder.new_checkpoint)
        if to is None:
            folder.publish_new_checkpoint()
    return int(checkpoint["global_step"]), to or folder.checkpoint


class Checkpoints(Callback):
    """Saves ``last.ckpt`` and ``weights.safetensors`` every ``every`` optimizer steps and at the end.

    Args:
        folder: The run folder.
        every: Number of optimizer steps between checkpoints.
        config: The resolved configuration as YAML. It is written to the run folder when training starts, which in a
            resumed run is after the checkpoint has been loaded.
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
        """Save a checkpoint and the weights. This must be called on every rank."""
        sharded = isinstance(trainer.strategy, ShardedStrategy) and trainer.strategy.saves_shards
        # Unlike a file, a folder cannot be replaced in a single atomic operation.
        in_place = not (sharded or self.folder.checkpoint.is_dir())
        path = self.folder.checkpoint if in_place else self.folder.new_checkpoint
        trainer.save_checkpoint(path, weights_only=False)  # weights_only=False includes the optimizer state
        with fail_together(trainer.world_size), explain_write_errors(self.folder.checkpoint):
            if not in_place and trainer.is_global_zero:
                self.folder.publish_new_checkpoint()
        self.save_weights(trainer, module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights of a finished run whose weights file is missing. Such a run takes no further step."""
        if self.saved_at < 0:
            self.save_weights(trainer, pl_module)

    def save_weights(self, trainer: Trainer, module: Any) -> None:
        """Save the weights. This must be called on every rank."""
        weights = module.weights()
        with fail_together(trainer.world_size), explain_write_errors(self.folder.weights):
            if trainer.is_global_zero:
                save_weights(self.folder.weights, weights)


class RequireFolder(Callback):
    """Stops the run if its folder is deleted or replaced, so that nothing is written to the wrong place."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.identity: tuple[int, int] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the identity of the folder."""
        self.identity = identity(self.folder)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Raise ``RunError`` if the folder was deleted or replaced."""
        if trainer.is_global_zero and (self.identity is None or identity(self.folder) != self.identity):
            raise RunError(
                f"{self.folder.name} was deleted or replaced during training; the run stopped at step "
                f"{trainer.global_step} and cannot be resumed in {self.folder.path}"
            )


def identity(folder: RunFolder) -> tuple[int, int] | None:
    """Return the device and inode of a run folder, or None if the folder does not exist or no longer contains a run."""
    try:
        status = folder.path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if folder.config.is_file() else None


class Finish(Callback):
    """Logs the final weights and marks the run as finished, before Lightning finalizes the logger."""

    def __init__(self, folder: RunFolder, logger: RunLogger) -> None:
        self.folder = folder
        self.logger = logger

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the weights and the configuration, and write the file ``finished``."""
        if trainer.is_global_zero:
            self.logger.log_artifact(self.folder.weights)
            self.logger.log_artifact(self.folder.config)
            write_atomically(self.folder.finished, f"{trainer.global_step}\n")

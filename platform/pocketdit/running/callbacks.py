"""What happens around the steps: the progress line and the grids of pictures."""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from tqdm import tqdm

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.config.experiment import Sampling
from pocketdit.files import write_atomically
from pocketdit.running.grids import grid, to_uint8
from pocketdit.sampling import sample
from pocketdit.tracking.logger import RunLogger


class Progress(Callback):
    """One line: steps done, rate, time left, losses. On a terminal it moves; in a log it is a line now and then.

    ``heading`` is printed first, by the first process only.
    """

    LOG_SECONDS = 20.0

    def __init__(self, heading: str) -> None:
        self.heading = heading
        self.bar: tqdm | None = None
        self.losses: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        print(self.heading, flush=True)
        live = sys.stderr.isatty()
        self.bar = tqdm(
            total=trainer.max_steps,
            initial=trainer.global_step,
            desc="train",
            unit="step",
            dynamic_ncols=live,
            mininterval=0.2 if live else self.LOG_SECONDS,
            maxinterval=10 if live else self.LOG_SECONDS * 1.5,
            ascii=None if live else " #",
            smoothing=0.05,
            bar_format="{desc} {n_fmt}/{total_fmt} {percentage:3.0f}% |{bar:20}| {rate_fmt} ETA {remaining}{postfix}"
            + ("" if live else "\n"),
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is None:
            return
        if trainer.global_step % max(1, trainer.log_every_n_steps) == 0:  # type: ignore[attr-defined]
            shown = {
                re.sub(r"^width_(.*)", r"\1x", name.removeprefix("loss/")): float(value)
                for name, value in outputs.items()
                if name.startswith("loss/")
            }
            self.losses.update(shown)
            line = " ".join(f"{name} {value:.3f}" for name, value in sorted(self.losses.items()))
            self.bar.set_postfix_str(f"loss {line}", refresh=False)
        self.bar.update(trainer.global_step - self.bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class TrainMetrics(Callback):
    """What training steps return, to the loggers every ``every`` batches: the last value since the time before.

    Not by ``LightningModule.log``, which would say an old value again in every line: not every width and not every
    network has its turn in every step.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.recent: dict[str, Any] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.recent |= outputs
        if (batch_idx + 1) % self.every == 0:
            values = {f"train/{name}": float(value) for name, value in self.recent.items()}
            for logger in trainer.loggers:
                logger.log_metrics(values, batch_idx)
            self.recent = {}


class PictureGrids(Callback):
    """A PNG every ``every`` steps and at the end; a subclass says of what."""

    def __init__(self, folder: RunFolder, every: int) -> None:
        self.folder = folder
        self.every = every
        self.drawn_at = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.drawn_at = trainer.global_step
        if self.every and trainer.global_step == 0:
            self.draw(trainer, pl_module, 0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        due = self.every and step % self.every == 0
        if step != self.drawn_at and (due or step >= trainer.max_steps):
            self.drawn_at = step
            self.draw(trainer, pl_module, step)

    def rows(self, trainer: Trainer, module: LightningModule, step: int) -> tuple[dict[str, Tensor], Sequence[str]]:
        """Pictures, uint8 (B, 3, H, W), of every row by its label, and the captions of the columns."""
        raise NotImplementedError

    def draw(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        """Every rank takes part, for sharded weights; the first writes."""
        rows, captions = self.rows(trainer, module, step)
        if not trainer.is_global_zero or not captions:
            return
        path = self.folder.samples / f"step-{step:06d}.png"
        picture = grid(list(rows.values()), list(rows), captions)
        write_atomically(path, lambda temporary: picture.save(temporary, format="PNG"))
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.log_image("samples", path, step)


class SampleGrids(PictureGrids):
    """The prompts at every width, from the averaged weights."""

    def __init__(self, folder: RunFolder, every: int, sampling: Sampling) -> None:
        super().__init__(folder, every)
        self.sampling = sampling

    def rows(self, trainer: Trainer, module: LightningModule, step: int) -> tuple[dict[str, Tensor], Sequence[str]]:
        # A dozen steps show what is there; a grid during training should not cost minutes.
        sampling = (
            self.sampling if step >= trainer.max_steps else replace(self.sampling, steps=min(self.sampling.steps, 12))
        )
        stage: Any = module
        autocast = torch.autocast(module.device.type, torch.bfloat16, enabled="bf16" in str(trainer.precision))
        with autocast, stage.averaged() as network:
            drawn = {
                f"{width:g}x": to_uint8(sample(network, stage.encoders, sampling.prompts, width, sampling))
                for width in sorted(network.spec.widths)
            }
        return drawn, sampling.prompts


class ReconstructionGrids(PictureGrids):
    """The first held-out images as they are, from the autoencoder, and from the averaged tiny decoder."""

    COLUMNS = 6

    def rows(self, trainer: Trainer, module: LightningModule, step: int) -> tuple[dict[str, Tensor], Sequence[str]]:
        stage: Any = module
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        batch: dict[str, Any] = next(iter(data.val_dataloader()), {"captions": []})
        captions = batch["captions"][: self.COLUMNS]
        if not captions:  # nothing is held out
            return {}, captions
        tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
        first = {key: value[: self.COLUMNS].to(module.device) for key, value in tensors.items()}
        return {label: to_uint8(images) for label, images in stage.reconstructions(first).items()}, captions


class Elapsed(Callback):
    """Steps and samples a second since the last report, as metrics."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since, self.from_step, self.samples = time.perf_counter(), trainer.global_step, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.samples += len(batch["captions"]) * trainer.world_size
        steps = trainer.global_step - self.from_step
        if steps >= self.every:
            seconds = time.perf_counter() - self.since
            speed = {"speed/steps_per_second": steps / seconds, "speed/samples_per_second": self.samples / seconds}
            for logger in trainer.loggers:
                logger.log_metrics(speed, batch_idx)
            self.on_train_start(trainer, pl_module)

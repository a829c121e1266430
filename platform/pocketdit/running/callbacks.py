"""Callbacks that report progress, metrics, and previews during training."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.block import DiTLevel
from pocketdit.encoders.inputs import Encoders
from pocketdit.files import write_atomically
from pocketdit.images import require_finite, to_uint8
from pocketdit.progress import ProgressLine
from pocketdit.running.accumulation import StepMeans
from pocketdit.running.gathering import gather
from pocketdit.running.grids import image_grid
from pocketdit.tracking.logger import RunLogger
from pocketdit.training.measured_forms import MeasuredForms
from pocketdit.training.update import batch_number


class Progress(Callback):
    """Shows the steps, rate, remaining time, and losses on one line.

    Args:
        heading: Text that the first process prints when training starts.
        means: The callback that averages the outputs of each step.
    """

    def __init__(self, heading: str, means: StepMeans) -> None:
        self.heading = heading
        self.means = means
        self.line: ProgressLine | None = None
        self.losses: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the heading and open the progress line."""
        if not trainer.is_global_zero:
            return
        print(self.heading, flush=True)
        self.line = ProgressLine(
            "{desc} {n_fmt}/{total_fmt} {percentage:3.0f}% |{bar:20}| {rate_fmt} ETA {remaining}{postfix}",
            desc="train",
            unit="step",
            total=trainer.max_steps,
            initial=trainer.global_step,
            smoothing=0.05,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the progress line, and show the losses at every logged step."""
        if self.line is None:
            return
        text, every = None, trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it dynamically
        if trainer.global_step % max(1, every) == 0:
            self.losses |= {
                re.sub(r"^width_(.*)", r"\1x", name.removeprefix("loss").removeprefix("/")): value
                for name, value in self.means.last.items()
                if name == "loss" or name.startswith("loss/")
            }
            text = " ".join(f"{name} {value:.3f}".strip() for name, value in sorted(self.losses.items()))
        self.line.advance(trainer.global_step, f"loss {text}" if text else None)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the progress line."""
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the progress line, so that the error starts on a new line."""
        self.close()

    def close(self) -> None:
        """Close the progress line if it is open."""
        if self.line is not None:
            self.line.close()
            self.line = None


class ValidationNote(Callback):
    """Prints a note if a run is to be validated, but its data set has no validation samples."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the note, now that Lightning has loaded the validation data."""
        if trainer.is_global_zero and trainer.enable_validation and not sum(trainer.num_val_batches):
            print("note: the data set has no validation samples, so the run is not validated", flush=True)


class MoveEncoders(Callback):
    """Moves the frozen encoders, which are not submodules of the stage, to the stage's device."""

    def __init__(self, encoders: Encoders) -> None:
        self.encoders = encoders

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the encoders after Lightning has moved the stage."""
        self.encoders.to(pl_module.device)


class MeasureForms(Callback):
    """Lets the stage's networks choose the forms of attention by measurement, and stores the choices in checkpoints."""

    def __init__(self) -> None:
        self.forms = MeasuredForms()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make every network of the stage choose its forms by measurement."""
        for module in pl_module.modules():
            if isinstance(module, DiTLevel):
                module.choose = self.forms

    def state_dict(self) -> dict[str, Any]:
        """Return the forms that all processes have chosen."""
        return self.forms.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the chosen forms."""
        self.forms.load_state_dict(state_dict)


def logged_step(trainer: Trainer, module: LightningModule, batch_idx: int) -> int:
    """Return the step under which to log metrics, as counted by Lightning.

    Lightning counts batches under manual optimization and optimizer steps under automatic optimization.
    """
    return max(0, trainer.global_step - 1) if module.automatic_optimization else batch_number(module, batch_idx)


def mean_over_processes(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each value over the processes that have it."""
    names = dict.fromkeys(name for process in values for name in process)
    own = {name: [process[name] for process in values if name in process] for name in names}
    return {name: numbers[0] if len(numbers) == 1 else sum(numbers) / len(numbers) for name, numbers in own.items()}


class TrainMetrics(Callback):
    """Every ``every`` optimizer steps, logs the latest outputs of the training steps.

    Each output is averaged over the processes that have it.

    ``LightningModule.log`` would log old values again, because a training step does not train every width and every
    network.

    Args:
        every: Number of optimizer steps between logged values.
        means: The callback that averages the outputs of each step.
    """

    def __init__(self, every: int, means: StepMeans) -> None:
        self.every = every
        self.means = means
        self.latest: dict[str, Any] = {}
        self.collected_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the first step, which is not 0 in a resumed run."""
        self.collected_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Collect the outputs of a step, and log them every ``every`` steps."""
        step = trainer.global_step
        if step == self.collected_at:
            return
        self.collected_at = step
        self.latest |= self.means.last
        if step % self.every == 0:
            latest = mean_over_processes(gather(self.latest, trainer.world_size))
            values = {f"train/{name}": value for name, value in latest.items()}
            for logger in trainer.loggers:
                logger.log_metrics(values, logged_step(trainer, pl_module, batch_idx))
            self.latest = {}


class Previews(Callback):
    """Writes the stage's preview as a PNG at the start, every ``every`` steps, and at the end.

    Args:
        folder: The run folder.
        every: Number of optimizer steps between previews. With 0, only the last preview is written.
    """

    def __init__(self, folder: RunFolder, every: int) -> None:
        self.folder = folder
        self.every = every
        self.written_at = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a preview of the untrained network, unless the run is resumed."""
        self.written_at = trainer.global_step
        if self.every and trainer.global_step == 0:
            self.write(trainer, pl_module, 0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Write a preview if one is due and has not been written at this step."""
        step = trainer.global_step
        due = self.every and step % self.every == 0
        if step != self.written_at and (due or step >= trainer.max_steps):
            self.written_at = step
            self.write(trainer, pl_module, step)

    def write(self, trainer: Trainer, module: Any, step: int) -> None:
        """Write a preview. Because weights may be sharded, all ranks compute it, but only the first rank writes it."""
        preview = module.preview(final=step >= trainer.max_steps)
        if preview is None or not trainer.is_global_zero:
            return
        path = self.folder.samples / f"step-{step:06d}.png"
        rows = [
            to_uint8(require_finite(row, f"{self.folder.name}, preview at step {step}, {label}"))
            for label, row in preview.rows.items()
        ]
        grid = image_grid(rows, list(preview.rows), preview.captions)
        write_atomically(path, lambda temporary: grid.save(temporary, format="PNG"))
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.log_image("samples", path, step)

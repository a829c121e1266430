"""Callbacks for steps of several batches: they average a step's outputs, and adapt the counters of resumed runs."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override


def scalars(outputs: Any) -> dict[str, float]:
    """Return the scalar outputs of a training step as a mapping from names to floats."""
    values = outputs if isinstance(outputs, Mapping) else {}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
    }


class StepMeans(Callback):
    """Averages the outputs of a step's batches, weighted by the number of samples in each batch.

    Attributes:
        last: The means of the last complete step. An output that only some batches have is averaged over those batches.
        steps: Number of steps when ``last`` was computed.
    """

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.steps = 0
        self._means: dict[str, float] = {}
        self._samples: dict[str, int] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the first step, which is not 0 in a resumed run."""
        self.steps = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the outputs of a batch to the means of its step."""
        values, size = scalars(outputs), len(batch["captions"])
        if pl_module.automatic_optimization and "loss" in values:
            values["loss"] *= trainer.accumulate_grad_batches  # Lightning has divided the loss by this number
        for name, value in values.items():
            samples = self._samples[name] = self._samples.get(name, 0) + size
            mean = self._means.get(name, value)
            # With this formula, the mean of equal values, and hence of a single batch, is exactly that value.
            self._means[name] = mean + (value - mean) * size / samples if samples > size else value
        if trainer.global_step != self.steps:
            self.steps, self.last = trainer.global_step, self._means
            self._means, self._samples = {}, {}


class BatchCounters(Callback):
    """Converts Lightning's counters of batches when a run is resumed with a different number of batches per step.

    Random draws, the end of a step, and the logged step are derived from these counters.

    Args:
        accumulate: Number of batches per step.
    """

    def __init__(self, accumulate: int) -> None:
        self.accumulate = accumulate

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"accumulate": self.accumulate}

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        previous = checkpoint["callbacks"].get(self.state_key, self.state_dict())["accumulate"]
        if pl_module.automatic_optimization or previous == self.accumulate:
            return
        loop = checkpoint["loops"]["fit_loop"]
        total = loop["epoch_loop.batch_progress"]["total"]
        added = total["ready"] // previous * self.accumulate - total["ready"]
        for name in total:
            total[name] += added
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] += added

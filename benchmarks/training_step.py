"""Time the phases of each embedded experiment's training step, and compare the step with its matrix products alone.

    python benchmarks/training_step.py [--experiment NAME ...] [--json PATH] [KEY=VALUE ...]

Every embedded experiment runs for a few steps on rendered scenes, after the parents that it needs, as ``lightning run``
would run it. ``KEY=VALUE`` overrides a setting of every experiment, for example ``training.precision=32-true``.

The floor of a step consists of the matrix products, convolutions and attention kernels of its forward and backward
passes, recorded with their operands and run again on their own in the run's dtype. It excludes the optimizer. Each
step's floor is timed right after the step, so the ratio compares neighboring measurements of the same batch.
Sampling from the pre-trained network and evaluating it are compared with their floors in the same way.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

import pocketdit  # noqa: F401  (first, so that torchvision can be imported beside a CPU build of torch)

# isort: split
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from benchmarks.floor import Product, ProductRecorder, count_flops, replay
from benchmarks.inference_clock import SamplingClock, measure_evaluation
from benchmarks.timing import (
    argument_parser,
    format_median,
    mean_seconds,
    paired_ratio,
    print_machine,
    synchronize,
    table,
    verdict,
    write_result,
)
from pocketdit.commands.main import main as lightning
from pocketdit.config.experiment import kind_of
from pocketdit.config.load import load
from pocketdit.running.fit import run
from pocketdit.training.gpus import find_gpu

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
# Each experiment is listed after its parents.
NAMES = (
    "elastic_pretrain",
    "teacher",
    "teacher_few_step",
    "knowledge_distill",
    "step_distill",
    "quantize_finetune",
    "tiny_decoder",
)
REQUIRED = 1.6
PHASES = ("data wait", "forward", "backward", "update", "EMA")
QUICK = [
    "data.init_args.batch_size=2",
    "data.init_args.workers=0",
    "data.init_args.validation_samples=4",
    "backbone.width=64",
    "backbone.widths=[0.5, 1.0]",
    "backbone.text_width=64",
]


class StepClock(Callback):
    """Times the training steps of a run, first undisturbed and by phase, then each together with its floor.

    Args:
        warmup: Number of untimed steps.
        rounds: Number of steps that are timed undisturbed, and number of steps that are then timed with their floors.

    Attributes:
        seconds: For "step" and each phase, the duration in seconds in each undisturbed step. "step" does not include
            "data wait".
        steps: Duration in seconds of each step that is timed with its floor.
        floors: Duration of each of these floors in seconds.
        flops: FLOPs of each of these floors.
    """

    def __init__(self, warmup: int, rounds: int) -> None:
        self.warmup, self.rounds = warmup, rounds
        self.total_steps = warmup + 2 * rounds
        self.seconds: dict[str, list[float]] = {phase: [] for phase in ("step", *PHASES)}
        self.steps: list[float] = []
        self.floors: list[float] = []
        self.flops: list[int] = []
        self.phases: dict[str, float] = {}
        self.started = self.ended = 0.0
        self.batches = 0
        self.patches = ExitStack()

    def timed(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that adds the time of ``call`` to a phase."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            synchronize()
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                synchronize()
                self.phases[phase] = self.phases.get(phase, 0.0) + time.perf_counter() - start

        return wrapper

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.patches.enter_context(
            patch.object(pl_module, "manual_backward", self.timed("backward", pl_module.manual_backward))
        )
        for name, module in list(sys.modules.items()):
            if name.startswith("pocketdit.stages."):
                for function, phase in {"update_weights": "update", "update_ema": "EMA"}.items():
                    if hasattr(module, function):
                        wrapped = self.timed(phase, getattr(module, function))
                        self.patches.enter_context(patch.object(module, function, wrapped))
        self.ended = time.perf_counter()

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        synchronize()
        self.started, self.phases = time.perf_counter(), {}

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        synchronize()
        step = time.perf_counter() - self.started
        phases = {phase: self.phases.get(phase, 0.0) for phase in PHASES}
        phases |= {"data wait": self.started - self.ended, "forward": step - sum(self.phases.values())}
        self.batches += 1
        if self.warmup < self.batches <= self.warmup + self.rounds:
            for phase, seconds in {"step": step, **phases}.items():
                self.seconds[phase].append(seconds)
        elif self.batches > self.warmup + self.rounds:
            products = self.record(trainer, batch, batch_idx)
            replay(products)
            self.steps.append(step)
            self.floors.append(mean_seconds(lambda: replay(products)))
            self.flops.append(count_flops(products))
        self.ended = time.perf_counter()

    def record(self, trainer: Trainer, batch: Any, batch_idx: int) -> list[Product]:
        """Repeat the forward and backward passes of a step without its update, and record their products."""
        with ExitStack() as stack:
            for name, module in list(sys.modules.items()):
                for function in ("update_weights", "update_ema"):
                    if name.startswith("pocketdit.stages.") and hasattr(module, function):
                        stack.enter_context(patch.object(module, function, lambda *args: {}))
            recorder = stack.enter_context(ProductRecorder())
            trainer.strategy.training_step(batch, batch_idx)
        for parameter in trainer.lightning_module.parameters():
            parameter.grad = None
        return list(recorder.products)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.patches.close()


def measure(name: str, overrides: Sequence[str], folder: Path, quick: bool) -> dict[str, Any]:
    """Run an experiment for a few steps in ``folder``, and return its timings."""
    file = EXPERIMENTS / f"{name}.yaml"
    clock = StepClock(1, 1) if quick else StepClock(5, 15)
    sampling = SamplingClock(1, 2) if quick else SamplingClock(3, 16)
    settings = [
        f"data.init_args.path={folder / 'scenes'}",
        f"runs={folder / 'runs'}",
        f"tracking.uri=sqlite:///{folder / 'tracking.db'}",
        f"training.max_steps={clock.total_steps}",
        "training.validate_every=0",
        "training.sample_every=0",
        *(QUICK if quick else []),
        *overrides,
    ]
    loaded = load(file, settings, kind_of(file))
    callbacks = [clock, sampling] if name == "elastic_pretrain" else [clock]
    with (folder / f"{name}.txt").open("w") as output, redirect_stdout(output), redirect_stderr(output):
        finished = run(loaded, None, None, False, callbacks)
    inference = list(sampling.rows)
    if sampling in callbacks:
        inference.append(measure_evaluation(finished, folder, sampling.rounds, sampling.images))
    ratio = paired_ratio(clock.steps, clock.floors)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    known, speed = find_gpu(gpu), mean(clock.flops) / mean(clock.steps)
    return {
        "experiment": name,
        "seconds": clock.seconds,
        "steps": clock.steps,
        "floors": clock.floors,
        "ratio": ratio,
        "flops": clock.flops,
        "flops_per_second": speed,
        "mfu": speed / known.peak if known else None,
        "inference": inference,
    }


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Print the times of each experiment's step, its phases and its floor, and those of sampling and evaluation."""
    header = ["experiment", "step", *PHASES, "floor", "step / floor", "GFLOP/s", "MFU"]
    cells = [
        [
            row["experiment"],
            *(format_median(row["seconds"][phase]) for phase in ("step", *PHASES)),
            format_median(row["floors"]),
            row["ratio"],
            f"{row['flops_per_second'] / 1e9:.0f}",
            "" if row["mfu"] is None else f"{row['mfu']:.1%}",
        ]
        for row in rows
    ]
    print(table(header, cells), end="\n\n")
    inference = [
        [item["name"], f"{item['images_per_second']:.2f}", format_median(item["floors"]), item["ratio"]]
        for row in rows
        for item in row["inference"]
    ]
    if inference:
        print(table(["inference at full width", "images/s", "floor", "time / floor"], inference), end="\n\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides for all experiments")
    parser.add_argument(
        "--experiment", action="append", choices=NAMES, help="measure only this experiment and those listed before it"
    )
    args = parser.parse_args(arguments)
    print_machine()
    names: Sequence[str] = NAMES[:1] if args.quick else NAMES
    if args.experiment:
        names = NAMES[: max(map(NAMES.index, args.experiment)) + 1]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        count, validation = (16, 4) if args.quick else (2000, 128)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            sizes = ["--train", str(count), "--validation", str(validation)]
            lightning(["data", "build", "scenes", str(folder / "scenes"), *sizes])
        rows = [measure(name, args.overrides, folder, args.quick) for name in names]
    print_rows(rows)
    ratio = rows[0]["ratio"]
    met = ratio.median <= REQUIRED
    print(f"ratio: {rows[0]['experiment']} step / floor = {ratio} (at most {REQUIRED}): {verdict(met)}")
    write_result(
        {"benchmark": "training_step", "rows": rows, "ratio": ratio, "required": REQUIRED, "met": met}, args.json
    )


if __name__ == "__main__":
    main()

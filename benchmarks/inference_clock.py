"""Times sampling and ``lightning evaluate``, each together with its floor (see ``benchmarks/floor.py``)."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from benchmarks.floor import Product, ProductRecorder, replay
from benchmarks.timing import mean_seconds, paired_ratio
from evaluation.evaluate import evaluate
from evaluation.settings import Evaluation
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.config.load import load
from pocketdit.sampling import sample
from pocketdit.training.precision import autocast

SAMPLING_STEPS = (28, 4)
EVALUATION = Path(__file__).parent.parent / "experiments" / "eval" / "held_out.yaml"
EVALUATION_STEPS = 4


def measure_with_floor(name: str, call: Callable[[], None], images: int, rounds: int) -> dict[str, Any]:
    """Time a call that produces ``images`` images alternately with its floor."""
    with ProductRecorder() as recorder:
        call()
    products: Sequence[Product] = recorder.products
    seconds, floors = [], []
    for _ in range(rounds):
        seconds.append(mean_seconds(call))
        floors.append(mean_seconds(lambda: replay(products)))
    return {
        "name": name,
        "seconds": seconds,
        "floors": floors,
        "images_per_second": images / median(seconds),
        "ratio": paired_ratio(seconds, floors),
    }


class SamplingClock(Callback):
    """Times sampling with the EMA weights at the end of a run, together with its floor.

    Args:
        rounds: Number of measurements.
        images: Number of images per measurement.

    Attributes:
        rows: The timings for each number of sampling steps.
    """

    def __init__(self, rounds: int, images: int) -> None:
        self.rounds, self.images = rounds, images
        self.rows: list[dict[str, Any]] = []

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stage: Any = pl_module
        prompts = [stage.sampling.prompts[index % len(stage.sampling.prompts)] for index in range(self.images)]
        for steps in SAMPLING_STEPS:
            settings = replace(stage.sampling, steps=steps)

            def draw(settings: Any = settings) -> None:
                with autocast(stage):
                    sample(stage.ema, stage.encoders, prompts, stage.widest, settings)

            self.rows.append(measure_with_floor(f"sample, {steps} steps", draw, self.images, self.rounds))


def measure_evaluation(run: RunFolder, folder: Path, rounds: int, images: int) -> dict[str, Any]:
    """Time ``lightning evaluate`` with the judge of rendered scenes, from loading the run to the report.

    Args:
        run: The run to evaluate.
        folder: Folder for the results.
        rounds: Number of measurements.
        images: Number of images per measurement.
    """
    reports: list[Path | None] = []

    def call() -> None:
        settings = [
            f"run={run.path}",
            f"steps={EVALUATION_STEPS}",
            f"prompts.captions.init_args.count={images}",
            f"out={folder / 'evaluations' / str(len(reports))}",
            f"tracking.uri=sqlite:///{folder / 'tracking.db'}",
        ]
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            reports.append(evaluate(load(EVALUATION, settings, Evaluation)))

    return measure_with_floor(f"evaluate, {EVALUATION_STEPS} steps", call, images, rounds)

"""What the sweep engine adds to its trials: seconds of each beyond its training, and what a second worker is worth.

The first is measured on trials that really train, one after the other in this process: wall-clock seconds of a trial,
from taking it to telling its result, less those inside ``Trainer.fit``. The second on trials that wait instead of
computing, so that the number of cores does not decide it: seconds from the first trial's start to the last one's end,
with one worker process over two.

    python benchmarks/sweep_engine.py [--trials N] [--rounds N] [--json PATH]
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import yaml

from benchmarks.timing import announce, options, pairwise, report, table
from pocketdit.config.load import Loaded, load
from pocketdit.files import write_atomically
from sweeps.metrics import Curves
from sweeps.settings import Sweep
from sweeps.train import Job, Watch

BASE = Path(__file__).parent.parent / "experiments" / "elastic_pretrain.yaml"
METRIC = "validation/loss/width_1"
MOST_OVERHEAD = 1.0  # seconds
LEAST_RATIO = 1.8
STEPS = 10


class Wait:
    """Instead of training: waits, and gives the learning rate back as the loss."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, job: Job, watch: Watch) -> Curves:
        experiment = job.loaded.config
        end = time.monotonic() + self.seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            watch.stepped()
        write_atomically(Path(experiment.runs) / experiment.experiment / job.name / "config.yaml", job.loaded.to_yaml())
        return {METRIC: [(experiment.training.max_steps - 1, experiment.optimizer.init_args["lr"])]}


def study(folder: Path, trials: int, given: dict[str, Any], train: dict[str, Any]) -> Loaded[Sweep]:
    """A study over the embedded experiment, written to ``folder``."""
    settings = {
        "sweep": "engine",
        "base": str(BASE),
        "out": str(folder / "runs"),
        "set": {"tracking.uri": f"sqlite:///{folder / 'mlflow.db'}", "training.decay": "constant", **given},
        "space": {"rate": {"kind": "float", "low": 1e-3, "high": 1e-2, "keys": ["optimizer.init_args.lr"]}},
        "objectives": {"loss": {"kind": "logged", "metric": METRIC}},
        "budget": {"trials": trials, "steps": [STEPS]},
        "train": train,
    }
    folder.mkdir(parents=True)
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return load(path, [], Sweep)


def overheads(folder: Path, trials: int) -> list[tuple[float, float]]:
    """Seconds of every trial in this process, and those of them inside ``Trainer.fit``."""
    from lightning.pytorch import Trainer

    from datamodules.shards.build import build_scenes
    from pocketdit.running.requirements import quiet_warnings
    from sweeps import engine

    quiet_warnings()
    build_scenes(folder / "scenes", train=64, validation=16, seed=0, overwrite=False)
    small = {"data.init_args.path": str(folder / "scenes"), "data.init_args.workers": 0,
             "data.init_args.batch_size": 4, "data.init_args.validation_samples": 4, "training.validate_every": STEPS,
             "training.checkpoint_every": STEPS, "training.sample_every": 0}  # fmt: skip
    settings = study(folder / "trains", trials, small, {"class_path": "sweeps.train.Train"})
    fitted, whole = [], []
    fit, run_one = Trainer.fit, engine.Worker.run_one

    def timed_fit(*args: Any, **more: Any) -> None:
        began = time.perf_counter()
        fit(*args, **more)
        fitted.append(time.perf_counter() - began)

    def timed_trial(worker: engine.Worker) -> bool:
        began = time.perf_counter()
        if done := run_one(worker):
            whole.append(time.perf_counter() - began)
        return done

    with patch.object(Trainer, "fit", timed_fit), patch.object(engine.Worker, "run_one", timed_trial):
        engine.run(settings)
    return list(zip(whole, fitted, strict=True))


def span(folder: Path, workers: int, trials: int, seconds: float) -> float:
    """From the first trial's start to the last one's end, in seconds, with so many worker processes."""
    import optuna

    from sweeps import engine
    from sweeps.launchers import Crew, launcher_for
    from sweeps.store import Store

    waits = {"class_path": "benchmarks.sweep_engine.Wait", "init_args": {"seconds": seconds}}
    loaded = study(folder, trials, {"training.validate_every": STEPS}, waits)
    sweep = loaded.config
    file = sweep.folder / "sweep.yaml"
    (sweep.folder / "log").mkdir(parents=True)
    write_atomically(file, loaded.to_yaml())
    store = Store(sweep)
    # As engine.run does with several, so that the one worker is a process too.
    with Crew(launcher_for(sweep, file), workers, sweep.folder / "log") as crew:
        engine.drive(store, crew.keep)
        store.closed = True
    done = store.search.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    begun = [trial.datetime_start for trial in done if trial.datetime_start]
    ended = [trial.datetime_complete for trial in done if trial.datetime_complete]
    return (max(ended) - min(begun)).total_seconds()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--trials", type=int, default=10, metavar="N", help="of each kind (default 10)")
    parser.add_argument("--rounds", type=int, default=3, help="with one worker and with two, in turns (default 3)")
    chosen = parser.parse_args(arguments)
    announce()
    trials, rounds, seconds = (2, 1, 1.0) if chosen.quick else (chosen.trials, chosen.rounds, 3.0)
    with TemporaryDirectory(prefix="sweep_engine") as name:
        folder = Path(name)
        pairs = overheads(folder, trials)
        spans = [[span(folder / f"{n}-{i}", n, trials, seconds) for n in (1, 2)] for i in range(rounds)]
    rows = [{"trial": i, "seconds": whole, "beyond": whole - inside} for i, (whole, inside) in enumerate(pairs)]
    cells = [[row["trial"], f"{row['seconds']:.2f} s", f"{row['beyond']:.2f} s"] for row in rows]
    print("\n" + table(["trial that trains", "whole", "beyond Trainer.fit"], cells))
    print(f"\n{trials} trials that wait {seconds:g} s: " + "; ".join(f"one worker {a:.1f} s, two {b:.1f} s"
                                                                     for a, b in spans))  # fmt: skip
    overhead = median(row["beyond"] for row in rows)
    ratio = pairwise(*zip(*spans, strict=True))
    met = overhead < MOST_OVERHEAD and ratio.median >= LEAST_RATIO
    print(
        f"ratio: one worker / two = {ratio}, required {LEAST_RATIO}; overhead of a trial: median {overhead:.2f} s, "
        f"required below {MOST_OVERHEAD:g} s: {'met' if met else 'NOT met'}"
    )
    report(
        {"benchmark": "sweep_engine", "rows": rows, "overhead": overhead, "most_overhead": MOST_OVERHEAD,
         "spans": spans, "ratio": ratio, "required": LEAST_RATIO, "met": met},
        chosen.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()

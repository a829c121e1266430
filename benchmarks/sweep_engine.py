"""Measure the engine of studies: seconds per trial in addition to training, and the speedup from a second worker.

The overhead is measured on trials that train one after the other in this process. It is the wall-clock time of a trial,
from claiming it to storing its result, without the time inside ``Trainer.fit``. The speedup is measured on trials that
sleep, so that the number of cores does not matter. It is the time from the first trial's start to the last one's end
with one worker process, divided by that with two. The first trial is queued once all workers have started.

    python benchmarks/sweep_engine.py [--trials N] [--rounds N] [--json PATH]
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import yaml

from benchmarks.timing import argument_parser, paired_ratio, print_machine, table, write_result
from pocketdit.config.load import Loaded, load
from pocketdit.files import write_atomically
from sweeps.engine.training import Job, Observer
from sweeps.metrics import Curves
from sweeps.settings import Sweep
from sweeps.storage.store import Store

BASE = Path(__file__).parent.parent / "experiments" / "elastic_pretrain.yaml"
METRIC = "validation/loss/width_1"
MAX_OVERHEAD = 1.0  # seconds
MIN_SPEEDUP = 1.8
STEPS = 10


class Sleep:
    """Sleeps instead of training, and returns the learning rate as the loss.

    Args:
        seconds: Duration of a trial.
        ready: Folder in which each worker leaves a file once it can run trials.
    """

    def __init__(self, seconds: float, ready: str) -> None:
        self.seconds = seconds
        (Path(ready) / str(os.getpid())).touch()

    def __call__(self, job: Job, observer: Observer) -> Curves:
        experiment = job.loaded.config
        end = time.monotonic() + self.seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            observer.on_step()
        write_atomically(Path(experiment.runs) / experiment.experiment / job.name / "config.yaml", job.loaded.to_yaml())
        return {METRIC: [(experiment.training.max_steps - 1, experiment.optimizer.init_args["lr"])]}


def load_study(folder: Path, trials: int, settings: dict[str, Any], train: dict[str, Any]) -> Loaded[Sweep]:
    """Write a study over the shipped experiment to ``folder`` and load it.

    Args:
        settings: Settings of the experiment that all trials share.
    """
    study = {
        "sweep": "engine",
        "base": str(BASE),
        "out": str(folder / "runs"),
        "set": {"tracking.uri": f"sqlite:///{folder / 'mlflow.db'}", "training.decay": "constant", **settings},
        "space": {"rate": {"kind": "float", "low": 1e-3, "high": 1e-2, "keys": ["optimizer.init_args.lr"]}},
        "objectives": {"loss": {"kind": "logged", "metric": METRIC}},
        "budget": {"trials": trials, "steps": [STEPS]},
        "train": train,
    }
    folder.mkdir(parents=True)
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return load(path, [], Sweep)


def no_plots(sweep: Sweep, store: Store) -> list[Path]:
    return []


def trial_seconds(folder: Path, trials: int) -> list[tuple[float, float]]:
    """Train trials in this process. Returns the seconds of each trial and those of them inside ``Trainer.fit``."""
    from lightning.pytorch import Trainer

    from datamodules.shards.build import build_scenes
    from pocketdit.running.requirements import quiet_warnings
    from sweeps.engine import study
    from sweeps.engine.worker import Worker

    quiet_warnings()
    build_scenes(folder / "scenes", train=64, validation=16, seed=0, overwrite=False)
    small = {"data.init_args.path": str(folder / "scenes"), "data.init_args.workers": 0,
             "data.init_args.batch_size": 4, "data.init_args.validation_samples": 4, "training.validate_every": STEPS,
             "training.checkpoint_every": STEPS, "training.sample_every": 0}  # fmt: skip
    loaded = load_study(folder / "trains", trials, small, {"class_path": "sweeps.engine.training.Train"})
    fitting, whole = [], []
    fit, run_one = Trainer.fit, Worker.run_one

    def timed_fit(*args: Any, **kwargs: Any) -> None:
        start = time.perf_counter()
        fit(*args, **kwargs)
        fitting.append(time.perf_counter() - start)

    def timed_trial(worker: Worker) -> bool:
        start = time.perf_counter()
        if claimed := run_one(worker):
            whole.append(time.perf_counter() - start)
        return claimed

    with patch.object(Trainer, "fit", timed_fit), patch.object(Worker, "run_one", timed_trial):
        study.run(loaded, no_plots)
    return list(zip(whole, fitting, strict=True))


def span(folder: Path, workers: int, trials: int, seconds: float) -> float:
    """Return the seconds from the first trial's start to the last one's end with worker processes."""
    import optuna

    from sweeps.engine import study
    from sweeps.engine.launchers import build_launcher
    from sweeps.engine.worker_pool import WorkerPool

    ready = folder.with_suffix(".ready")
    ready.mkdir()
    sleep = {"class_path": "benchmarks.sweep_engine.Sleep", "init_args": {"seconds": seconds, "ready": str(ready)}}
    loaded = load_study(folder, trials, {"training.validate_every": STEPS}, sleep)
    sweep = loaded.config
    file = sweep.folder / "sweep.yaml"
    (sweep.folder / "log").mkdir(parents=True)
    write_atomically(file, loaded.to_yaml())
    store = Store(sweep)
    # `study.run` would run the trials of a single worker in this process.
    with WorkerPool(build_launcher(sweep, file), workers, sweep.folder / "log") as pool:
        while len(list(ready.iterdir())) < workers:
            pool.restart_missing()
            time.sleep(0.1)
        study.drive(store, pool.restart_missing)
        store.closed = True
    complete = store.search.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    starts = [trial.datetime_start for trial in complete if trial.datetime_start]
    ends = [trial.datetime_complete for trial in complete if trial.datetime_complete]
    return (max(ends) - min(starts)).total_seconds()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--trials", type=int, default=10, metavar="N", help="trials of each kind (default 10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of one and two workers in turn (default 3)")
    args = parser.parse_args(arguments)
    print_machine()
    trials, rounds, seconds = (2, 1, 1.0) if args.quick else (args.trials, args.rounds, 3.0)
    with TemporaryDirectory(prefix="sweep_engine") as name:
        folder = Path(name)
        trained = trial_seconds(folder, trials)
        spans = [[span(folder / f"{n}-{i}", n, trials, seconds) for n in (1, 2)] for i in range(rounds)]
    rows = [{"trial": i, "seconds": whole, "beyond": whole - inside} for i, (whole, inside) in enumerate(trained)]
    cells = [[row["trial"], f"{row['seconds']:.2f} s", f"{row['beyond']:.2f} s"] for row in rows]
    print("\n" + table(["training trial", "total", "outside Trainer.fit"], cells))
    rounds_text = "; ".join(f"one worker {a:.1f} s, two {b:.1f} s" for a, b in spans)
    print(f"\n{trials} trials that sleep {seconds:g} s: {rounds_text}")
    overhead = median(row["beyond"] for row in rows)
    ratio = paired_ratio(*zip(*spans, strict=True))
    met = overhead < MAX_OVERHEAD and ratio.median >= MIN_SPEEDUP
    print(
        f"ratio: one worker / two = {ratio}, required {MIN_SPEEDUP}; overhead of a trial: median {overhead:.2f} s, "
        f"required below {MAX_OVERHEAD:g} s: {'met' if met else 'NOT met'}"
    )
    write_result(
        {"benchmark": "sweep_engine", "rows": rows, "overhead": overhead, "most_overhead": MAX_OVERHEAD,
         "spans": spans, "ratio": ratio, "required": MIN_SPEEDUP, "met": met},
        args.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()

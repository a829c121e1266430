"""Measure the sweep engine: its overhead per trial, and the speedup from a second worker.

The overhead is measured on trials that train one after the other in this process. It is the wall-clock time of a trial,
from claiming it to storing its result, minus the time inside ``Trainer.fit``. The speedup is measured on trials that
sleep, because the number of cores does not affect them. It is the time between the start of the first trial and the end
of the last with one worker process, divided by the same time with two workers. The first trial is queued once all
workers have started.

    python benchmarks/sweep_engine.py [--trials N] [--rounds N] [--json PATH]
"""

import os
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import yaml

from benchmarks.timing import argument_parser, paired_ratio, print_machine, table, verdict, write_result
from pocketdit.config.load import Loaded, load
from pocketdit.config.project import FILE_NAME
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
    """A stand-in for training that sleeps and returns the learning rate as the loss.

    Args:
        seconds: Duration of a trial.
        ready: Folder in which each worker creates a file once it can run trials.
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
    """Write a study of the shipped experiment to ``folder`` and load it.

    Args:
        folder: Folder for everything that the study writes.
        trials: Number of trials.
        settings: Overrides of the experiment for all trials.
        train: The component that trains a trial.
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
    """Train trials in this process, and return how many seconds each took, in total and inside ``Trainer.fit``."""
    from lightning.pytorch import Trainer

    from datamodules.scenes.generator import SceneGenerator
    from datamodules.shards.build_generated import build_generated
    from pocketdit.running.requirements import quiet_warnings
    from sweeps.engine import study
    from sweeps.engine.worker import Worker

    quiet_warnings()
    build_generated(SceneGenerator(), folder / "scenes", train=64, validation=16, seed=0, overwrite=False)
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
    """Run sleeping trials in worker processes, and return the time in seconds from the first start to the last end."""
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
    # The workers are started here, because `study.run` would run the trials of a single worker in this process.
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
    parser.add_argument(
        "--trials",
        type=int,
        default=10,
        metavar="N",
        help="number of trials that train, and number of trials that sleep (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of speedup measurements (default: %(default)s)")
    args = parser.parse_args(arguments)
    print_machine()
    trials, rounds, seconds = (2, 1, 1.0) if args.quick else (args.trials, args.rounds, 3.0)
    with TemporaryDirectory(prefix="sweep_engine") as name, chdir(name):
        folder = Path(name)
        # Workers run `Sleep` only if this file in their working directory lists the package as trusted.
        Path(FILE_NAME).write_text('[trust]\nmodules = ["benchmarks"]\n')
        trained = trial_seconds(folder, trials)
        spans = [[span(folder / f"{n}-{i}", n, trials, seconds) for n in (1, 2)] for i in range(rounds)]
    rows = [{"trial": i, "seconds": whole, "overhead": whole - inside} for i, (whole, inside) in enumerate(trained)]
    cells = [[row["trial"], f"{row['seconds']:.2f} s", f"{row['overhead']:.2f} s"] for row in rows]
    print("\n" + table(["trial that trains", "total", "outside Trainer.fit"], cells))
    rounds_text = "; ".join(f"one worker {a:.1f} s, two workers {b:.1f} s" for a, b in spans)
    print(f"\n{trials} trials that sleep for {seconds:g} s: {rounds_text}")
    overhead = median(row["overhead"] for row in rows)
    ratio = paired_ratio(*zip(*spans, strict=True))
    met = overhead < MAX_OVERHEAD and ratio.median >= MIN_SPEEDUP
    print(
        f"ratio: one worker / two = {ratio} (at least {MIN_SPEEDUP}); overhead per trial: median {overhead:.2f} s "
        f"(below {MAX_OVERHEAD:g} s): {verdict(met)}"
    )
    write_result(
        {"benchmark": "sweep_engine", "rows": rows, "overhead": overhead, "max_overhead": MAX_OVERHEAD,
         "spans": spans, "ratio": ratio, "required": MIN_SPEEDUP, "met": met},
        args.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()

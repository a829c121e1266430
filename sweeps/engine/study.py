"""The main loop of ``lightning sweep``, which queues trials and keeps workers busy until the study is complete."""

import time
from collections.abc import Callable
from pathlib import Path

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded
from pocketdit.config.shell import command_line, operand
from pocketdit.errors import ConfigError, RunError, RunInterruptedError
from pocketdit.files import write_atomically
from sweeps.checks import check, check_computed, require_same_study
from sweeps.engine.launchers import build_launcher
from sweeps.engine.lock import lock
from sweeps.engine.parent_run import ParentRun
from sweeps.engine.progress import StudyProgress, summary, table, trained_steps
from sweeps.engine.trial_queue import is_exhausted, missing_trials, unfinished
from sweeps.engine.worker import POLL_SECONDS, Worker
from sweeps.engine.worker_pool import Launcher, WorkerPool
from sweeps.settings import Processes, Sweep
from sweeps.storage.connection import masked_url, storage_errors
from sweeps.storage.records import TrialRecord
from sweeps.storage.results import best_candidates, candidates, load_candidates
from sweeps.storage.store import Store

STALE_CHECK_SECONDS = 5.0
# The study stops at this many infeasible trials per trial in the budget, because hardly any point is then feasible.
MAX_INFEASIBLE = 30
MAX_FIRST_FAILURES = 3

Plotter = Callable[[Sweep, Store], list[Path]]


def run(loaded: Loaded[Sweep], plot: Plotter) -> Store:
    """Run a study, or resume it, until its budget is spent.

    With a single worker, the trials run sequentially in this process.

    Args:
        loaded: The study's settings.
        plot: Function that writes the study's plots and returns their paths.

    Returns:
        The study's storage.

    Raises:
        ConfigError: The settings are wrong.
        RunError: Nearly all trials are infeasible or fail, or the storage does not respond.
        RunInterruptedError: The command was interrupted.
    """
    base = check(loaded)
    sweep: Sweep = loaded.config
    settings = sweep.folder / "sweep.yaml"
    require_same_study(settings, sweep)
    distributed = sweep.workers > 1 or not isinstance(sweep.launcher, Processes)
    launcher = build_launcher(sweep, settings) if distributed else None
    check_computed(sweep, base.config)
    with lock(sweep), storage_errors(sweep):
        store = Store(sweep)
        require_own_runs(sweep, store)
        _run_locked(loaded, base, store, launcher, plot)
    return store


def _run_locked(
    loaded: Loaded[Sweep], base: Loaded[Experiment], store: Store, launcher: Launcher | None, plot: Plotter
) -> None:
    sweep = loaded.config
    worker = Worker(store)
    (sweep.folder / "log").mkdir(parents=True, exist_ok=True)
    write_atomically(sweep.folder / "sweep.yaml", loaded.to_yaml())
    parent = ParentRun(loaded, base.config)
    try:
        if (run_id := parent.run_id()) is not None:
            store.parent_run = run_id
        store.closed = False
        if launcher is None:
            drive(store, worker.run_one)
        else:
            with WorkerPool(launcher, sweep.workers, sweep.folder / "log") as pool:
                drive(store, pool.restart_missing)
                store.closed = True
    except KeyboardInterrupt:
        parent.interrupt()
        raise RunInterruptedError(f"interrupted; run the same command again to resume {sweep.sweep}") from None
    except BaseException:
        parent.interrupt()
        raise
    finish(store, parent, plot)


def drive(store: Store, work: Callable[[], bool | None]) -> None:
    """Queue missing trials and call ``work`` until the study is complete.

    Args:
        store: The study's storage.
        work: Function that runs a trial, or restarts missing workers. If it returns a false value, the loop pauses
            before its next check.
    """
    line = StudyProgress(store.sweep)
    last_stale_check = 0.0
    failed_before = sum(record.outcome == "failed" for record in store.records(promoted=False))
    try:
        while True:
            if time.monotonic() - last_stale_check > STALE_CHECK_SECONDS:
                store.fail_stale()
                last_stale_check = time.monotonic()
            search, promoted = store.records(promoted=False), store.records(promoted=True)
            new = missing_trials(store.sweep, search, promoted)
            if not all(trial.promoted for trial in new):
                stop_if_hopeless(store.sweep, search, failed_before)
            for trial in new:
                store.add(trial.promoted, trial.params, trial.distributions, trial.attrs)
            running = sum(record.state.name == "RUNNING" for record in (*search, *promoted))
            line.show(candidates(store.sweep, search, promoted), running, trained_steps(store.sweep, search, promoted))
            if not new and not unfinished(search) and not unfinished(promoted):
                return
            if not work():
                time.sleep(POLL_SECONDS)
    finally:
        line.close()


def stop_if_hopeless(sweep: Sweep, search: list[TrialRecord], failed_before: int) -> None:
    """Stop the study if its first trials have all failed or hardly any trial is feasible.

    Args:
        sweep: The study's settings.
        search: All trials of the search.
        failed_before: Number of failed trials when the command started. They are ignored, because their cause may have
            been fixed since.

    Raises:
        RunError: The study cannot succeed. The message includes the reason for the latest failure.
    """
    failed = [record for record in search if record.outcome == "failed"][failed_before:]
    succeeded = any(record.outcome in ("complete", "pruned") for record in search)
    if len(failed) >= MAX_FIRST_FAILURES and not succeeded:
        raise RunError(
            f"the first {len(failed)} trials failed: {failed[-1].attrs.get('reason')}; see {sweep.folder / 'log'}"
        )
    infeasible = [record for record in search if record.outcome == "infeasible" and "duplicate_of" not in record.attrs]
    if len(infeasible) >= MAX_INFEASIBLE * sweep.budget.trials:
        raise RunError(
            f"{len(infeasible)} trials could not be trained (the last one: "
            f"{infeasible[-1].attrs.get('reason')}); change the space or the constraints, or lower budget.trials"
        )


def require_own_runs(sweep: Sweep, store: Store) -> None:
    """Reject run folders whose study is not in the storage, because new trials would resume them."""
    folders = sorted((sweep.out / sweep.sweep).glob("trial-*"))
    if folders and not store.records(promoted=False):
        raise ConfigError(
            f"sweep: {folders[0]} belongs to a study that is not in {masked_url(sweep)}; "
            f"remove {folders[0].parent} or give this study another name: sweep=NAME"
        )


def finish(store: Store, parent: ParentRun, plot: Plotter) -> None:
    """Print the results, write the plots, and print the commands to run next.

    Raises:
        RunError: No trial succeeded.
    """
    sweep = store.sweep
    search = store.records(promoted=False)
    all_candidates = load_candidates(sweep, store)
    best = best_candidates(sweep, all_candidates)
    print(f"\n{sweep.sweep}: {summary(sweep, all_candidates)}")
    if is_exhausted(search):
        complete = sum(record.outcome == "complete" for record in search)
        print(f"the search space is exhausted after {complete} trials")
    if not best:
        parent.finish(best, [])
        raise RunError(f"{sweep.sweep}: no trial succeeded: {last_reason(search)}; see {sweep.folder / 'log'}")
    print(table(sweep, all_candidates), flush=True)  # before the plots, in case a plot fails
    plots = plot(sweep, store)
    parent.finish(best, plots)
    for path in plots:
        print(f"  plot   {path}")
    config, study = sweep.out / best[0].run / "config.yaml", sweep.folder / "sweep.yaml"
    print(f"  next   {command_line('run', operand(config))}      (train the best trial again)")
    print(f"         {command_line('sweep', operand(study), '--winner', str(best[0].number))}")
    print("         lightning ui")


def last_reason(search: list[TrialRecord]) -> str:
    """Return the latest recorded reason that a trial did not succeed."""
    reasons = [str(record.attrs["reason"]) for record in search if "reason" in record.attrs]
    return reasons[-1] if reasons else "no trial was trained"

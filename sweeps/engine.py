"""``lightning sweep``: fills the queue, keeps workers at it, ends when nothing is missing."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from pocketdit.config.component import build
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded
from pocketdit.errors import ConfigError, RunError, Stopped
from pocketdit.files import write_atomically
from sweeps import plan, results
from sweeps.check import check, require_same_study
from sweeps.launchers import Crew, Launcher, launcher_for
from sweeps.parent import ParentRun
from sweeps.progress import Line, summary, table
from sweeps.settings import Computed, Processes, Sweep
from sweeps.store import Store, TrialRecord, answering
from sweeps.worker import PARENT, POLL_SECONDS, Worker

STALE_SECONDS = 5.0
# Of so many trials that could not be trained for each that could, the space holds next to nothing.
MOST_INFEASIBLE = 30
MOST_FAILED = 3


def run(loaded: Loaded[Sweep]) -> Store:
    """Run a study, or go on with it, to the end of its budget. Returns its storage.

    With one worker trials run in this process, one after the other. Raises ``ConfigError`` for what is wrong with the
    settings, ``RunError`` where nearly all trials are refused or fail, ``Stopped`` when told to.
    """
    base = check(loaded)
    sweep: Sweep = loaded.config
    settings = sweep.folder / "sweep.yaml"
    require_same_study(settings, sweep)
    launcher = launcher_for(sweep, settings) if distributed(sweep) else None
    try_figures(sweep, base.config)
    with alone(sweep), answering(sweep):
        return _run(loaded, base, launcher)


def _run(loaded: Loaded[Sweep], base: Loaded[Experiment], launcher: Launcher | None) -> Store:
    sweep = loaded.config
    store = Store(sweep)
    require_own_runs(sweep, store)
    worker = Worker(sweep, store)
    settings = sweep.folder / "sweep.yaml"
    (sweep.folder / "log").mkdir(parents=True, exist_ok=True)
    write_atomically(settings, loaded.to_yaml())
    parent = ParentRun(loaded, base.config)
    try:
        if (run_id := parent.run_id()) is not None:
            store.search.set_user_attr(PARENT, run_id)
        store.closed = False
        if launcher is None:
            drive(store, worker.run_one)
        else:
            with Crew(launcher, sweep.workers, sweep.folder / "log") as crew:
                drive(store, crew.keep)
                store.closed = True
    except KeyboardInterrupt:
        parent.stop()
        raise Stopped(f"stopped; the same command goes on with {sweep.sweep}") from None
    except BaseException:
        parent.stop()
        raise
    finish(store, parent)
    return store


def distributed(sweep: Sweep) -> bool:
    return sweep.workers > 1 or not isinstance(sweep.launcher, Processes)


def drive(store: Store, work: Callable[[], bool | None]) -> None:
    """Add what is missing and let ``work`` be done, until nothing is; ``work`` says whether it took its time."""
    line = Line(store.sweep)
    looked = 0.0
    failed_before = sum(record.ended == "failed" for record in store.records(longer=False))
    try:
        while True:
            if time.monotonic() - looked > STALE_SECONDS:
                store.fail_stale()
                looked = time.monotonic()
            search, longer = store.records(longer=False), store.records(longer=True)
            additions = plan.missing(store.sweep, search, longer)
            if not all(addition.longer for addition in additions):
                stop_if_hopeless(store.sweep, search, failed_before)
            for one in additions:
                store.add(one.longer, one.choices, one.distributions, one.notes)
            going = sum(record.state.name == "RUNNING" for record in (*search, *longer))
            line.show(results.assemble(store.sweep, search, longer), going, trained(store.sweep, search, longer))
            if not additions and not plan.running(search) and not plan.running(longer):
                return
            if not work():
                time.sleep(POLL_SECONDS)
    finally:
        line.close()


def trained(sweep: Sweep, search: list[TrialRecord], longer: list[TrialRecord]) -> int:
    """Optimizer steps of the trials that are done; a pruned or failed one counts as if it had been trained."""
    done = [record.notes for record in (*search, *longer) if record.ended in ("finished", "pruned", "failed")]
    # What goes on did not train its first steps again.
    before = {steps: earlier for earlier, steps in pairwise(sweep.budget.steps)}
    return sum(n["steps"] - (before.get(n["steps"], 0) if n["seed"] == sweep.seed else 0) for n in done if "steps" in n)


def stop_if_hopeless(sweep: Sweep, search: list[TrialRecord], failed_before: int) -> None:
    """``RunError`` with the last reason where trials only fail, or hardly any choice can be trained.

    ``failed_before``: so many had failed when the command began; their cause may be mended.
    """
    failed = [record for record in search if record.ended == "failed"][failed_before:]
    finished = any(record.ended in ("finished", "pruned") for record in search)
    if len(failed) >= MOST_FAILED and not finished:
        raise RunError(f"the first {len(failed)} trials failed: {failed[-1].notes.get('reason')}; see "
                       f"{sweep.folder / 'log'}")  # fmt: skip
    refused = [record for record in search if record.ended == "infeasible" and "repeats" not in record.notes]
    if len(refused) >= MOST_INFEASIBLE * sweep.budget.trials:
        raise RunError(f"{len(refused)} trials could not be trained, the last: {refused[-1].notes.get('reason')}; "
                       "change the space or the constraints, or lower budget.trials")  # fmt: skip


def require_own_runs(sweep: Sweep, store: Store) -> None:
    """Run folders without their study would be taken for its trials' own."""
    there = sorted((sweep.out / sweep.sweep).glob("trial-*"))
    if there and not store.records(longer=False):
        raise ConfigError(f"{there[0]} is of another study than {sweep.url} holds: remove {there[0].parent} or give "
                          "this one another name, sweep=NAME")  # fmt: skip


@contextmanager
def alone(sweep: Sweep) -> Iterator[None]:
    """``RunError`` where another command on this machine drives the study: both would add what is missing."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with (sweep.folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{sweep.sweep} is being run by another command (it holds {file.name})") from None
        yield


def try_figures(sweep: Sweep, experiment: Experiment) -> None:
    """Compute every figure of the base experiment once: what is wrong with one is said before the first trial."""
    objectives = {name: one.of for name, one in sweep.objectives.items() if isinstance(one, Computed)}
    bounds = {name: one.of for name, one in sweep.constraints.items()}
    for group, figures in (("objectives", objectives), ("constraints", bounds)):
        for name, figure in figures.items():
            try:
                float(build(figure)(experiment))
            except (ValueError, TypeError, NotImplementedError) as error:
                raise ConfigError(f"{group}.{name}: {str(error).splitlines()[0]}") from error


def finish(store: Store, parent: ParentRun) -> None:
    """The table, the pictures, the next command."""
    sweep = store.sweep
    search = store.records(longer=False)
    found = results.assemble(sweep, search, store.records(longer=True))
    best = results.best(sweep, found)
    pictures = draw(store) if best else []
    parent.finish(best, pictures)
    print(f"\n{sweep.sweep}: {summary(sweep, found)}")
    if plan.exhausted(search):
        print(f"the space holds no more than {sum(record.ended == 'finished' for record in search)} trials")
    if best:
        print(table(sweep, found))
    for path in pictures:
        print(f"  picture  {path}")
    if best:
        print(f"  next     lightning run {sweep.out / best[0].run / 'config.yaml'}      (the same trial again)")
        print(f"           lightning sweep {sweep.folder / 'sweep.yaml'} --winner {best[0].number}")
        print("           lightning ui")


def draw(store: Store) -> list[Path]:
    """Pictures of the study in its folder."""
    from sweeps.looking.report import report

    return report(store.sweep, store)

"""A study in Optuna's storage, which is the queue that all workers share: waiting, running and finished trials.

Two Optuna studies hold a sweep. NAME is the search: every trial there has the first budget. NAME/longer holds what goes
on from it: promotions to further budgets and finalists with other seeds, whose values are not comparable with the
search's and must not reach the sampler. The budget is exact because trials exist before they run: only the one process
that runs the command adds them (``plan.py``), and a worker takes one that waits, which the database lets one do.

What a trial carries besides Optuna's parameters and values, as user attributes:

candidate   number of the first trial (of NAME) with these choices; those of NAME/longer continue or repeat it
rung        index into budget.steps; steps: that many optimizer steps
seed        of the experiment
run         EXPERIMENT/RUN of its run folder
overrides   key=value over the base experiment, complete
bounds      figures of the constraints, by name
figures     of the objectives known so far, by name
baseline    the choices, where they are one of ``baselines``
continues   number of the trial, in the same study, whose place it takes because its worker died or was stopped
ended       finished, pruned, infeasible, failed or stopped; missing where the worker died
reason      why it was not finished
repeats     number of the trial with the same choices, for which it is infeasible
first       it is the one that is trained with these choices
random      drawn at random, because the sampler repeated itself
worker      who ran it
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from pocketdit.errors import ConfigError, RunError
from sweeps.samplers import build_pruner, build_sampler
from sweeps.settings import Scalar, Sweep

CLOSED = "closed"
LONGER = "longer"

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with Study.optimize")


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it is stored. ``ended``: as above, or "" where it waits, runs, or its worker died."""

    number: int
    state: TrialState
    choices: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]
    values: tuple[float, ...] | None
    notes: dict[str, Any]

    @property
    def candidate(self) -> int:
        return int(self.notes.get("candidate", self.number))

    @property
    def ended(self) -> str:
        return str(self.notes.get("ended", ""))

    @property
    def lost(self) -> bool:
        """Whether its worker died: also between saying how it ended and storing the values."""
        return self.state == TrialState.FAIL and self.ended in ("", "finished", "pruned")

    @property
    def live(self) -> bool:
        """Waiting, running, or done for good."""
        return self.state != TrialState.FAIL or self.ended == "failed"


class Store:
    """The two Optuna studies of a sweep. ``worker``: numbered from 0; samplers of two workers must draw differently.

    Raises ``RunError`` where the storage does not answer or holds another study under this name.
    """

    def __init__(self, sweep: Sweep, worker: int = 0) -> None:
        self.sweep = sweep
        self.storage = open_storage(sweep)
        self.search = self._study(sweep.sweep)
        self.longer = self._study(f"{sweep.sweep}/{LONGER}")
        seeds = worker, len(self.search.get_trials(deepcopy=False))
        self.sampler = build_sampler(sweep, *seeds)
        # With the sampler's own seed it would draw again what the sampler began with.
        chance = replace(sweep.sampler, kind="random", seed=sweep.sampler.seed + 1)
        self.chance = build_sampler(replace(sweep, sampler=chance), *seeds)
        self.search.pruner = build_pruner(sweep)

    def _study(self, name: str) -> optuna.Study:
        study = optuna.create_study(
            storage=self.storage, study_name=name, directions=list(self.sweep.directions), load_if_exists=True
        )
        if tuple(d.name.lower() for d in study.directions) != self.sweep.directions:
            raise RunError(
                f"{shown_url(self.sweep)} holds a study {name} with other objectives; give this one another name"
            )
        return study

    def study(self, longer: bool) -> optuna.Study:
        return self.longer if longer else self.search

    def records(self, longer: bool) -> list[TrialRecord]:
        """All trials in the order of their numbers."""
        return [
            TrialRecord(t.number, t.state, dict(t.params), dict(t.distributions), _values(t), dict(t.user_attrs))
            for t in self.study(longer).get_trials(deepcopy=False)
        ]

    def add(
        self,
        longer: bool,
        choices: dict[str, Scalar],
        distributions: dict[str, BaseDistribution],
        notes: dict[str, Any],
    ) -> None:
        """A trial that waits for a worker; what is not in ``choices`` the sampler decides when one takes it.

        ``distributions``: of choices that another trial made; without them the worker makes the choices as given.
        """
        made, given = (choices, {}) if distributions else ({}, {"fixed_params": choices})
        self.study(longer).add_trial(
            optuna.create_trial(state=TrialState.WAITING, params=made, distributions=distributions, user_attrs=notes,
                                system_attrs=given)
        )  # fmt: skip

    def claim(self, worker: str) -> tuple[bool, optuna.Trial] | None:
        """A waiting trial, now running and this worker's alone, with whether it is one of the longer ones."""
        for longer in (True, False):
            study = self.study(longer)
            identity = self.storage.get_study_id_from_name(study.study_name)
            for waiting in self.storage.get_all_trials(identity, deepcopy=False, states=(TrialState.WAITING,)):
                number = self.storage.get_trial_id_from_study_id_trial_number(identity, waiting.number)
                # A trial that runs without ever having had a heartbeat would never be found stale.
                self.storage.record_heartbeat(number)
                with suppress(optuna.exceptions.UpdateFinishedTrialError):
                    if self.storage.set_trial_state_values(number, TrialState.RUNNING):
                        study.get_trials(deepcopy=False)  # Optuna's cache does not know a trial that another added
                        study.sampler = self.chance if waiting.user_attrs.get("random") else self.sampler
                        trial = optuna.Trial(study, number)
                        trial.set_user_attr("worker", worker)
                        return longer, trial
        return None

    def fail_stale(self) -> None:
        """Trials whose worker has been silent for too long are failed; ``plan.py`` puts them back into the queue."""
        for study in (self.search, self.longer):
            optuna.storages.fail_stale_trials(study)

    @contextmanager
    def heartbeat(self, study: optuna.Study, trial: optuna.Trial) -> Iterator[threading.Event]:
        """Say that this worker lives while the block runs. The event is set once the trial is no longer its own."""
        identity = self.storage.get_study_id_from_name(study.study_name)
        number = self.storage.get_trial_id_from_study_id_trial_number(identity, trial.number)
        done, lost = threading.Event(), threading.Event()

        def beat() -> None:
            while not done.wait(self.sweep.heartbeat.every):
                with suppress(optuna.exceptions.StorageInternalError):  # a database that is away comes back
                    if self.storage.get_trial(number).state != TrialState.RUNNING:
                        lost.set()
                        return
                    self.storage.record_heartbeat(number)
            self.storage.remove_session()

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            done.set()
            thread.join()

    @property
    def closed(self) -> bool:
        """Whether the study is over, so that workers leave."""
        identity = self.storage.get_study_id_from_name(self.search.study_name)
        return bool(self.storage.get_study_user_attrs(identity).get(CLOSED))

    @closed.setter
    def closed(self, value: bool) -> None:
        self.search.set_user_attr(CLOSED, value)


def open_storage(sweep: Sweep) -> optuna.storages.RDBStorage:
    """Optuna's storage with heartbeats. A sqlite file is made where there is none."""
    url = sweep.url
    sqlite = url.startswith("sqlite:///")
    if sqlite:
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = {"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True}
    try:
        storage = optuna.storages.RDBStorage(
            url,
            engine_kwargs=arguments,
            heartbeat_interval=sweep.heartbeat.every,
            grace_period=sweep.heartbeat.grace,
        )
    except ImportError as error:
        raise ConfigError(f"storage: {shown_url(sweep)} needs a driver that is not installed: {error}") from error
    except ValueError as error:
        raise ConfigError(f"storage: {shown_url(sweep)}: {error}") from error
    except Exception as error:  # every driver has its own
        if not _concerns_database(error):
            raise
        raise RunError(f"storage: {shown_url(sweep)} does not answer: {str(error).splitlines()[0]}") from error
    if sqlite:
        _lock_whole_transactions(storage)
    return storage


def shown_url(sweep: Sweep) -> str:
    """Where the study is kept, without the password."""
    import sqlalchemy

    try:
        return sqlalchemy.make_url(sweep.url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return sweep.url


def study_names(sweep: Sweep) -> list[str]:
    """What the storage holds."""
    return optuna.get_all_study_names(open_storage(sweep))


@contextmanager
def answering(sweep: Sweep) -> Iterator[None]:
    """``RunError`` in one line where the storage stops to answer while the block runs."""
    try:
        yield
    except Exception as error:  # every driver has its own
        if not _concerns_database(error):
            raise
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        raise RunError(
            f"storage: {shown_url(sweep)} does not answer: {cause}; the same command goes on with {sweep.sweep}"
        ) from error


def _concerns_database(error: Exception) -> bool:
    import sqlalchemy.exc

    return isinstance(error, sqlalchemy.exc.SQLAlchemyError | optuna.exceptions.StorageInternalError)


def _lock_whole_transactions(storage: optuna.storages.RDBStorage) -> None:
    """Make a sqlite transaction take the lock when it begins. sqlite knows no SELECT FOR UPDATE: otherwise two workers
    could both read that a trial waits, and both take it."""
    import sqlalchemy

    storage.engine.dispose()

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def no_implicit_begin(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        # A write-ahead log: many small transactions, each of which would else wait for the disk.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin_immediate(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _values(trial: optuna.trial.FrozenTrial) -> tuple[float, ...] | None:
    return None if trial.values is None else tuple(trial.values)

"""Every use of Optuna beyond its public interface, in one place to check when Optuna is updated.

Optuna's own loop (``Study.optimize``) claims trials, sends heartbeats and builds ``Trial`` objects itself. The workers
of a study do so here, because their trials are queued by another process.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from sweeps.dimensions import Scalar


def trial_id(storage: optuna.storages.RDBStorage, study: optuna.Study, number: int) -> int:
    """Return the database's identifier of a trial."""
    return storage.get_trial_id_from_study_id_trial_number(_study_id(storage, study), number)


def waiting_trials(storage: optuna.storages.RDBStorage, study: optuna.Study) -> Iterator[FrozenTrial]:
    """Read the waiting trials from the database, past the study's cache."""
    yield from storage.get_all_trials(_study_id(storage, study), deepcopy=False, states=(TrialState.WAITING,))


def try_start(storage: optuna.storages.RDBStorage, study: optuna.Study, number: int) -> bool:
    """Set a waiting trial to running. The database lets exactly one caller succeed."""
    identifier = trial_id(storage, study, number)
    # A running trial that never had a heartbeat would never be found stale.
    storage.record_heartbeat(identifier)
    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        return bool(storage.set_trial_state_values(identifier, TrialState.RUNNING))
    return False


def open_trial(storage: optuna.storages.RDBStorage, study: optuna.Study, number: int) -> optuna.Trial:
    """Return a running trial of the study, whose sampler chooses its parameters."""
    study.get_trials(deepcopy=False)  # update the cache with trials that another process added
    return optuna.Trial(study, trial_id(storage, study, number))


def send_heartbeat(storage: optuna.storages.RDBStorage, identifier: int) -> bool:
    """Record a heartbeat. Returns False, without recording it, if the trial is no longer running."""
    if storage.get_trial(identifier).state != TrialState.RUNNING:
        return False
    storage.record_heartbeat(identifier)
    return True


def close_session(storage: optuna.storages.RDBStorage) -> None:
    """Close this thread's database session."""
    storage.remove_session()


def fixed_params(params: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return the system attributes of a queued trial whose worker uses ``params`` instead of asking the sampler."""
    return {"fixed_params": dict(params)}


def lock_transactions_early(storage: optuna.storages.RDBStorage) -> None:
    """Let every SQLite transaction take the write lock when it begins.

    SQLite does not have SELECT FOR UPDATE. Without this, two workers could read that a trial waits and both claim it.
    """
    storage.engine.dispose()

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def disable_implicit_begin(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        # With a write-ahead log, the many small transactions do not each wait for the disk.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin_immediate(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Return the volume between ``reference`` and the points, all of which must be smaller in every objective."""
    from optuna._hypervolume import compute_hypervolume

    return float(compute_hypervolume(np.array(points, dtype=float), np.array(reference, dtype=float)))


def _study_id(storage: optuna.storages.RDBStorage, study: optuna.Study) -> int:
    return storage.get_study_id_from_name(study.study_name)

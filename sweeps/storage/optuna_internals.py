"""All uses of Optuna's internals, collected here because an update of Optuna can break them.

``Study.optimize`` claims trials, sends heartbeats, and builds ``Trial`` objects internally. A worker must do so itself,
because another process queues its trials.
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
    """Return a trial's ID in the database."""
    return storage.get_trial_id_from_study_id_trial_number(_study_id(storage, study), number)


def waiting_trials(storage: optuna.storages.RDBStorage, study: optuna.Study) -> Iterator[FrozenTrial]:
    """Read the waiting trials from the database, bypassing the study's cache."""
    yield from storage.get_all_trials(_study_id(storage, study), deepcopy=False, states=(TrialState.WAITING,))


def try_start(storage: optuna.storages.RDBStorage, study: optuna.Study, number: int) -> bool:
    """Set a waiting trial to running, and return whether this caller did so. Only one caller can succeed."""
    identifier = trial_id(storage, study, number)
    # Optuna never considers a running trial stale before its first heartbeat has been recorded.
    storage.record_heartbeat(identifier)
    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        return bool(storage.set_trial_state_values(identifier, TrialState.RUNNING))
    return False


def open_trial(storage: optuna.storages.RDBStorage, study: optuna.Study, number: int) -> optuna.Trial:
    """Return a running trial. The study's sampler chooses its parameters."""
    study.get_trials(deepcopy=False)  # add trials from other processes to the cache
    return optuna.Trial(study, trial_id(storage, study, number))


def send_heartbeat(storage: optuna.storages.RDBStorage, identifier: int) -> bool:
    """Record a heartbeat if the trial is still running, and return whether it is."""
    if storage.get_trial(identifier).state != TrialState.RUNNING:
        return False
    storage.record_heartbeat(identifier)
    return True


def close_session(storage: optuna.storages.RDBStorage) -> None:
    """Close this thread's database session."""
    storage.remove_session()


def fixed_params(params: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return system attributes that make a queued trial use ``params`` instead of the sampler's suggestions."""
    return {"fixed_params": dict(params)}


def lock_transactions_early(storage: optuna.storages.RDBStorage) -> None:
    """Make every SQLite transaction take the write lock when it begins.

    SQLite does not support SELECT FOR UPDATE. Without the early lock, two workers could both read that a trial is
    waiting, and both claim it.
    """
    storage.engine.dispose()

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def disable_implicit_begin(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        # With a write-ahead log and synchronous=NORMAL, transactions do not wait for the disk when they commit.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin_immediate(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Return the volume dominated by the points, all of which must be below ``reference`` in every objective."""
    from optuna._hypervolume import compute_hypervolume

    return float(compute_hypervolume(np.array(points, dtype=float), np.array(reference, dtype=float)))


def _study_id(storage: optuna.storages.RDBStorage, study: optuna.Study) -> int:
    return storage.get_study_id_from_name(study.study_name)

"""A study in Optuna's storage, which is the queue that all workers share.

A sweep consists of two Optuna studies. NAME is the search, whose trials all have the first budget. NAME/promoted holds
the trials that continue from it: promotions to further budgets and finalists with other seeds. Their values are not
comparable with those of the search and must not reach the sampler. The budget is exact because trials exist before they
run: only the process of the command adds them (``sweeps/engine/trial_queue.py``), and a worker claims one that waits,
which the database grants to a single worker.

Besides Optuna's parameters and values, a trial has these user attributes:

    candidate          number of the first trial of NAME with these parameters
    rung               index into budget.steps
    steps              optimizer steps of the rung
    seed               training seed
    run                EXPERIMENT/RUN of its run folder
    overrides          [key, value] pairs over the base experiment, complete
    constraint_values  figures of the constraints, by name
    objective_values   objectives known so far, by name
    baseline           its parameters, if they are one of ``baselines``
    retry_of           number of the trial in the same study that it replaces, because its worker died or was stopped
    outcome            complete, pruned, infeasible, failed or interrupted; missing if the worker died
    reason             why the trial is not complete
    duplicate_of       number of the trial with the same parameters, which makes this one infeasible
    original           true for the trial that is trained with these parameters
    random             parameters are drawn at random, because the sampler repeated itself
    worker             the worker that ran it
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from pocketdit.errors import RunError
from sweeps.dimensions import Scalar
from sweeps.samplers import build_pruner, build_sampler
from sweeps.settings import Sweep
from sweeps.storage import optuna_internals
from sweeps.storage.connection import masked_url, open_storage
from sweeps.storage.records import TrialRecord

CLOSED = "closed"
PARENT_RUN = "mlflow_run_id"
PROMOTED = "promoted"

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with Study.optimize")


class Store:
    """The two Optuna studies of a sweep.

    Args:
        worker: Index of the worker that uses it; the samplers of two workers must draw different numbers.

    Raises:
        RunError: The storage does not respond, or it holds a different study under this name.
    """

    def __init__(self, sweep: Sweep, worker: int = 0) -> None:
        self.sweep = sweep
        self.storage = open_storage(sweep)
        self.search = self._study(sweep.sweep)
        self.promoted = self._study(f"{sweep.sweep}/{PROMOTED}")
        trials = len(self.search.get_trials(deepcopy=False))
        self.sampler = build_sampler(sweep, worker, trials)
        # With the same seed, it would repeat the random trials that the sampler starts with.
        random = replace(sweep.sampler, kind="random", seed=sweep.sampler.seed + 1)
        self.random_sampler = build_sampler(replace(sweep, sampler=random), worker, trials)
        self.search.pruner = build_pruner(sweep)

    def _study(self, name: str) -> optuna.Study:
        study = optuna.create_study(
            storage=self.storage, study_name=name, directions=list(self.sweep.directions), load_if_exists=True
        )
        if tuple(d.name.lower() for d in study.directions) != self.sweep.directions:
            raise RunError(
                f"sweep: {masked_url(self.sweep)} contains a study {name} with other objectives; "
                "give this study another name: sweep=NAME"
            )
        return study

    def study(self, promoted: bool) -> optuna.Study:
        return self.promoted if promoted else self.search

    def records(self, promoted: bool) -> list[TrialRecord]:
        """Return all trials in the order of their numbers."""
        return [_record(trial) for trial in self.study(promoted).get_trials(deepcopy=False)]

    def add(
        self,
        promoted: bool,
        params: dict[str, Scalar],
        distributions: dict[str, BaseDistribution],
        attrs: dict[str, Any],
    ) -> None:
        """Queue a trial. The sampler chooses parameters that are not in ``params`` when a worker claims it.

        Args:
            distributions: Distributions of ``params`` if another trial chose them. Without them, the worker chooses
                exactly ``params``.
        """
        chosen, system_attrs = (params, {}) if distributions else ({}, optuna_internals.fixed_params(params))
        self.study(promoted).add_trial(
            optuna.create_trial(
                state=TrialState.WAITING,
                params=chosen,
                distributions=distributions,
                user_attrs=attrs,
                system_attrs=system_attrs,
            )
        )

    def claim(self, worker: str) -> tuple[bool, optuna.Trial] | None:
        """Claim a waiting trial, promoted ones first.

        Returns:
            Whether the trial is a promoted one, and the trial, now running; None if no trial waits.
        """
        for promoted in (True, False):
            study = self.study(promoted)
            for waiting in optuna_internals.waiting_trials(self.storage, study):
                if optuna_internals.try_start(self.storage, study, waiting.number):
                    study.sampler = self.random_sampler if waiting.user_attrs.get("random") else self.sampler
                    trial = optuna_internals.open_trial(self.storage, study, waiting.number)
                    trial.set_user_attr("worker", worker)
                    return promoted, trial
        return None

    def fail_stale(self) -> None:
        """Fail the trials whose workers have been silent for too long, so that they are queued again."""
        for study in (self.search, self.promoted):
            optuna.storages.fail_stale_trials(study)

    @contextmanager
    def heartbeat(self, study: optuna.Study, trial: optuna.Trial) -> Iterator[threading.Event]:
        """Send heartbeats while the block runs.

        Yields:
            An event that is set once the trial no longer belongs to this worker.
        """
        identifier = optuna_internals.trial_id(self.storage, study, trial.number)
        done, lost = threading.Event(), threading.Event()

        def beat() -> None:
            while not done.wait(self.sweep.heartbeat.every):
                with suppress(optuna.exceptions.StorageInternalError):  # the database may become reachable again
                    if not optuna_internals.send_heartbeat(self.storage, identifier):
                        lost.set()
                        return
            optuna_internals.close_session(self.storage)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            done.set()
            thread.join()

    @property
    def closed(self) -> bool:
        """Whether the study is over, so that workers exit."""
        return bool(self.search.user_attrs.get(CLOSED))

    @closed.setter
    def closed(self, value: bool) -> None:
        self.search.set_user_attr(CLOSED, value)

    @property
    def parent_run(self) -> str | None:
        """MLflow's identifier of the study's own run, if MLflow responded."""
        return self.search.user_attrs.get(PARENT_RUN)

    @parent_run.setter
    def parent_run(self, value: str) -> None:
        self.search.set_user_attr(PARENT_RUN, value)


def _record(trial: FrozenTrial) -> TrialRecord:
    values = None if trial.values is None else tuple(trial.values)
    return TrialRecord(
        trial.number, trial.state, dict(trial.params), dict(trial.distributions), values, dict(trial.user_attrs)
    )

"""A study in Optuna's storage, which serves as the queue for all workers.

A sweep consists of two Optuna studies. NAME is the search, in which every trial has the first budget. NAME/promoted
contains the trials that continue the search: promotions to larger budgets, and finalists with other seeds. Their values
are not comparable with those of the search and must not reach the sampler.

Only the ``lightning sweep`` process adds trials (``sweeps/engine/trial_queue.py``). Workers claim waiting trials, and
the database assigns each trial to a single worker. The number of trials therefore always matches the budget.

In addition to Optuna's parameters and values, a trial has these user attributes:

    candidate          number of the first trial of NAME with these parameters
    rung               index into budget.steps
    steps              optimizer steps of the rung
    seed               training seed
    run                run folder as EXPERIMENT/RUN
    overrides          all changes to the base experiment, as [key, value] pairs
    constraint_values  value of each constrained quantity, keyed by the name of the constraint
    objective_values   values of the objectives that are known so far, keyed by name
    baseline           the trial's parameters, if the trial is a baseline
    retry_of           number of the lost or interrupted trial in the same study that this trial replaces
    outcome            complete, pruned, infeasible, failed or interrupted; missing if the worker died
    reason             why the trial is not complete
    duplicate_of       number of the trial with the same parameters, which makes this one infeasible
    original           true for the one trial that is trained with these parameters
    random             true if the parameters are drawn at random because the sampler repeated itself
    worker             name of the worker that ran the trial
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
        sweep: The study's settings.
        worker: Index of the worker that uses the store. Samplers of different workers draw different numbers.

    Raises:
        RunError: The storage does not respond, or it contains a different study with this name.
    """

    def __init__(self, sweep: Sweep, worker: int = 0) -> None:
        self.sweep = sweep
        self.storage = open_storage(sweep)
        self.search = self._study(sweep.sweep)
        self.promoted = self._study(f"{sweep.sweep}/{PROMOTED}")
        trials = len(self.search.get_trials(deepcopy=False))
        self.sampler = build_sampler(sweep, worker, trials)
        # With the same seed, the random sampler would repeat the main sampler's initial random trials.
        random = replace(sweep.sampler, kind="random", seed=sweep.sampler.seed + 1)
        self.random_sampler = build_sampler(replace(sweep, sampler=random), worker, trials)
        self.search.pruner = build_pruner(sweep)

    def _study(self, name: str) -> optuna.Study:
        study = optuna.create_study(
            storage=self.storage, study_name=name, directions=list(self.sweep.directions), load_if_exists=True
        )
        if tuple(d.name.lower() for d in study.directions) != self.sweep.directions:
            raise RunError(
                f"sweep: {masked_url(self.sweep)} contains a study {name} with different objectives; "
                "give this study another name: sweep=NAME"
            )
        return study

    def study(self, promoted: bool) -> optuna.Study:
        """Return the Optuna study of the promoted trials or of the search."""
        return self.promoted if promoted else self.search

    def records(self, promoted: bool) -> list[TrialRecord]:
        """Return all trials, sorted by number."""
        return [_record(trial) for trial in self.study(promoted).get_trials(deepcopy=False)]

    def add(
        self,
        promoted: bool,
        params: dict[str, Scalar],
        distributions: dict[str, BaseDistribution],
        attrs: dict[str, Any],
    ) -> None:
        """Queue a trial. When a worker claims it, the sampler chooses any parameters that are not in ``params``.

        Args:
            promoted: Whether the trial continues the search.
            params: Parameters of the trial.
            distributions: Distributions of ``params`` if they come from another trial. If empty, the worker uses
                ``params`` with the distributions of the search space.
            attrs: User attributes.
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
        """Claim a waiting trial, giving priority to promoted ones.

        Returns:
            A pair of whether the trial is promoted and the trial, which is now running; None if no trial is waiting.
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
        """Fail the trials whose workers have stopped sending heartbeats, so that the trials are queued again."""
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
        """Whether the study has ended. Workers of a closed study exit."""
        return bool(self.search.user_attrs.get(CLOSED))

    @closed.setter
    def closed(self, value: bool) -> None:
        self.search.set_user_attr(CLOSED, value)

    @property
    def parent_run(self) -> str | None:
        """MLflow ID of the study's own run, or None if MLflow did not respond."""
        return self.search.user_attrs.get(PARENT_RUN)

    @parent_run.setter
    def parent_run(self, value: str) -> None:
        self.search.set_user_attr(PARENT_RUN, value)


def _record(trial: FrozenTrial) -> TrialRecord:
    values = None if trial.values is None else tuple(trial.values)
    return TrialRecord(
        trial.number, trial.state, dict(trial.params), dict(trial.distributions), values, dict(trial.user_attrs)
    )

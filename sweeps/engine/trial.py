"""Runs one trial: chooses its parameters, trains it, and measures its objectives."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import optuna
from typing_extensions import override

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.config.component import build
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded
from pocketdit.errors import ConfigError, RunError
from sweeps import requirement
from sweeps.engine.training import Job, LostTrialError, Observer, PrunedTrialError
from sweeps.metrics import Curves, value_after, value_of
from sweeps.objectives import Computed, Logged, Scored
from sweeps.overrides import KeyValue, flatten, load_experiment
from sweeps.settings import Sweep
from sweeps.space import Params, param_overrides, suggest_params
from sweeps.storage.store import Store


class InfeasibleError(Exception):
    """The trial will not be trained. The message gives the reason."""


class StudyComponents:
    """The components that a study's settings refer to, built once per worker."""

    def __init__(self, sweep: Sweep) -> None:
        objectives = sweep.objectives.items()
        self.computed = {name: build(o.of) for name, o in objectives if isinstance(o, Computed)}
        self.scored = {name: build(o.of) for name, o in objectives if isinstance(o, Scored)}
        self.constraints = {name: build(bound.of) for name, bound in sweep.constraints.items()}
        self.train = build(sweep.train)


@dataclass
class TrialRun(Observer):
    """A trial that a worker has claimed.

    Attributes:
        store: The study's storage.
        components: The study's components.
        trial: The claimed trial.
        promoted: Whether the trial continues or repeats a trial of the search.
        lost: Event that is set once the trial no longer belongs to the worker.
        attrs: User attributes that identify the trial in the study: candidate, rung, seed, steps, and run.
    """

    store: Store
    components: StudyComponents
    trial: optuna.Trial
    promoted: bool
    lost: Event
    attrs: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        queued, sweep = self.trial.user_attrs, self.store.sweep
        candidate = int(queued.get("candidate", self.trial.number))
        defaults = {
            "candidate": candidate,
            "rung": 0,
            "seed": sweep.seed,
            "steps": sweep.budget.steps[0],
            "run": f"{sweep.sweep}/trial-{candidate:04d}",
        }
        self.attrs = {name: queued.get(name, value) for name, value in defaults.items()}

    def run(self) -> list[float]:
        """Train the trial and return its objectives in order.

        Raises:
            InfeasibleError: The trial will not be trained.
            PrunedTrialError: The pruner ended the trial.
            LostTrialError: The trial no longer belongs to the worker.
        """
        sweep = self.store.sweep
        params = dict(self.trial.params) if self.promoted else suggest_params(sweep.space, self.trial)
        overrides = [*self.study_overrides(), *param_overrides(sweep.space, params)]
        self.record(**self.attrs, overrides=overrides)
        self.refuse_duplicate(params)
        for text in sweep.require:
            if not requirement.is_satisfied(text, params):
                raise InfeasibleError(f"require: {text}")
        loaded = self.load(overrides)
        self.check_constraints(loaded.config)
        values = {name: float(compute(loaded.config)) for name, compute in self.components.computed.items()}
        self.record(objective_values=values)
        curves = self.components.train(self.job(loaded, values), self)
        values |= self.measure(curves)
        self.record(objective_values=values)
        for name in sweep.objectives:
            if not math.isfinite(values[name]):
                raise RunError(f"{name} is {values[name]}")
        return [values[name] for name in sweep.objectives]

    def study_overrides(self) -> list[KeyValue]:
        """Return the overrides that the study applies to every trial, regardless of its parameters."""
        sweep, attrs = self.store.sweep, self.attrs
        own = {
            "experiment": sweep.sweep,
            "runs": str(sweep.out),
            "seed": attrs["seed"],
            "training.max_steps": attrs["steps"],
        }
        return [*flatten(sweep.set), *own.items()]

    def refuse_duplicate(self, params: Params) -> None:
        """Raise ``InfeasibleError`` if another trial has the same parameters and thus the same values."""
        if self.promoted or "retry_of" in self.trial.user_attrs:
            return
        for other in self.store.records(promoted=False):
            if other.number == self.trial.number or other.params != params or other.outcome == "infeasible":
                continue
            # If two trials choose the same parameters at the same time, only the earlier one is trained.
            if other.number < self.trial.number or "original" in other.attrs:
                self.record(duplicate_of=other.candidate)
                raise InfeasibleError(f"same parameters as trial {other.candidate}")
        self.record(original=True)

    def load(self, overrides: list[KeyValue]) -> Loaded[Experiment]:
        """Load the trial's experiment. Raises ``InfeasibleError`` if the experiment does not accept the overrides."""
        try:
            return load_experiment(self.store.sweep.base, overrides)
        except ConfigError as error:
            raise InfeasibleError(str(error.__context__ or error)) from None

    def check_constraints(self, experiment: Experiment) -> None:
        """Compute and record the constraints. Raises ``InfeasibleError`` if the trial violates any of them."""
        values = {}
        try:
            for name, compute in self.components.constraints.items():
                values[name] = float(compute(experiment))
        except ValueError as error:
            raise InfeasibleError(str(error)) from None
        self.record(constraint_values=values)
        violated = []
        for name, value in values.items():
            bound = self.store.sweep.constraints[name]
            excess = max(bound.at_least - value, value - bound.at_most)
            self.trial.set_constraint(name, excess)
            if excess > 0:
                violated.append(f"{name} is {value:.4g}")
        if violated:
            raise InfeasibleError("; ".join(violated))

    def job(self, loaded: Loaded[Experiment], values: Mapping[str, float]) -> Job:
        """Describe the training run, given the values of the computed objectives."""
        sweep, attrs = self.store.sweep, self.attrs
        tags = {"sweep": sweep.sweep, "sweep.trial": str(attrs["candidate"]), "sweep.rung": str(attrs["rung"])}
        tags |= {f"sweep.{name}": str(value) for name, value in self.trial.params.items()}
        if parent := self.store.parent_run:
            tags["mlflow.parentRunId"] = parent
        logged = {name: o.metric for name, o in sweep.objectives.items() if isinstance(o, Logged)}
        return Job(loaded, self.run_name, tags, values, logged, self.log_file)

    def measure(self, curves: Curves) -> dict[str, float]:
        """Return the logged and scored objectives, which require the trained run."""
        sweep, values = self.store.sweep, {}
        for name, objective in sweep.objectives.items():
            if isinstance(objective, Logged):
                try:
                    values[name] = value_after(objective.metric, curves, self.attrs["steps"])
                except KeyError:
                    raise RunError(f"{objective.metric} was not logged at step {self.attrs['steps']}") from None
            elif isinstance(objective, Scored):
                values[name] = float(self.components.scored[name](RunFolder(sweep.out / self.attrs["run"])))
        return values

    @override
    def on_step(self) -> None:
        if self.lost.is_set():
            raise LostTrialError

    @override
    def on_validation(self, steps: int, values: Mapping[str, float]) -> None:
        self.on_step()
        if self.store.sweep.pruner is None or self.promoted:
            return
        (objective,) = self.store.sweep.objectives.values()
        assert isinstance(objective, Logged)
        self.trial.report(value_of(objective.metric, values), steps)
        if steps < self.attrs["steps"] and "baseline" not in self.trial.user_attrs and self.trial.should_prune():
            raise PrunedTrialError

    def record(self, **attrs: Any) -> None:
        """Store user attributes of the trial."""
        for name, value in attrs.items():
            self.trial.set_user_attr(name, value)

    @property
    def run_name(self) -> str:
        """Name of the trial's run folder."""
        return str(self.attrs["run"]).rpartition("/")[2]

    @property
    def log_file(self) -> Path:
        """File for the output of the trial's run."""
        return self.store.sweep.folder / "log" / f"{self.run_name}.txt"

    def log(self, text: str) -> None:
        """Append text to the log file."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("a") as file:
            file.write(text)

"""One worker: takes trials from the queue, runs them in this process, and says what came out."""

import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import optuna
from optuna.trial import TrialState

from pocketdit.config.component import build
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded, load
from pocketdit.errors import ConfigError, RunError, RunInterrupted, UserError
from sweeps import requirement, space
from sweeps.metrics import Curves, value_at, value_of
from sweeps.settings import Computed, Logged, Scored, Sweep
from sweeps.store import Store, answering
from sweeps.train import Job, Lost, Pruned, Watch

POLL_SECONDS = 0.3
# A worker without work leaves, so that one whose command is gone does not stay for ever; the command starts another.
PATIENCE_SECONDS = 600.0
PARENT = "mlflow_run_id"


class Infeasible(Exception):
    """The trial's configuration is not one that is trained; the message says why."""


def work(sweep: Sweep, index: int, folder: Path | None = None) -> None:
    """Run trials until the study is closed. ``folder``: what relative paths are relative to."""
    if folder is not None:
        os.chdir(folder)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # class paths in a user's own folder
    parent = os.getppid()
    worker = Worker(sweep, Store(sweep, index))
    idle_since = time.monotonic()
    while not worker.store.closed and os.getppid() == parent:
        if worker.run_one():
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > PATIENCE_SECONDS:
            return
        else:
            time.sleep(POLL_SECONDS)


@dataclass
class Worker:
    """``figures``: the computed objectives and constraints, built once."""

    sweep: Sweep
    store: Store
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")

    def __post_init__(self) -> None:
        computed = {name: o for name, o in self.sweep.objectives.items() if isinstance(o, Computed)}
        scored = {name: o for name, o in self.sweep.objectives.items() if isinstance(o, Scored)}
        self.computed = {name: build(objective.of) for name, objective in computed.items()}
        self.scored = {name: build(objective.of) for name, objective in scored.items()}
        self.bounds = {name: build(bound.of) for name, bound in self.sweep.constraints.items()}
        self.train = build(self.sweep.train)

    def run_one(self) -> bool:
        """Take a trial and bring it to its end; False where none waits. Hands it back before ``RunInterrupted``."""
        claimed = self.store.claim(self.name)
        if claimed is None:
            return False
        longer, trial = claimed
        study = self.store.study(longer)
        with self.store.heartbeat(study, trial) as lost:
            attempt = Attempt(self, trial, longer, lost)
            try:
                values = attempt.run()
            except Lost:
                return True
            except Infeasible as refusal:
                self.tell(study, trial, TrialState.FAIL, "infeasible", str(refusal))
            except Pruned:
                self.tell(study, trial, TrialState.PRUNED, "pruned", "")
            except (RunInterrupted, KeyboardInterrupt, SystemExit) as stop:
                self.tell(study, trial, TrialState.FAIL, "stopped", str(stop))
                raise RunInterrupted(f"stopped in trial {trial.number}; the same command goes on with it") from None
            except Exception as error:  # whatever a trial's configuration makes of the code is that trial's failure
                attempt.log(traceback.format_exc())
                message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                self.tell(study, trial, TrialState.FAIL, "failed", message.strip().splitlines()[0])
            else:
                self.tell(study, trial, TrialState.COMPLETE, "finished", "", values)
        return True

    def tell(
        self,
        study: optuna.Study,
        trial: optuna.Trial,
        state: TrialState,
        ended: str,
        reason: str,
        values: list[float] | None = None,
    ) -> None:
        """Nothing where the trial is no longer this worker's."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr("ended", ended)
            if reason:
                trial.set_user_attr("reason", reason)
            study.tell(trial, values, state, skip_if_finished=True)


@dataclass
class Attempt(Watch):
    """One trial in one worker's hands. ``lost``: set when it is no longer in them."""

    worker: Worker
    trial: optuna.Trial
    longer: bool
    lost: Event

    def run(self) -> list[float]:
        """The objectives in order."""
        sweep = self.worker.sweep
        self.notes = self.describe()
        choices = dict(self.trial.params) if self.longer else space.choose(sweep.space, self.trial)
        words = [*self.given(), *space.overrides(sweep.space, choices)]
        self.note(**self.notes, overrides=words)
        self.refuse_repetition(choices)
        for text in sweep.require:
            if not requirement.holds(text, choices):
                raise Infeasible(f"require: {text}")
        loaded = self.load(words)
        self.check_bounds(loaded.config)
        figures = {name: float(figure(loaded.config)) for name, figure in self.worker.computed.items()}
        self.note(figures=figures)
        curves = self.worker.train(self.job(loaded, figures), self)
        figures |= self.measured(curves)
        self.note(figures=figures)
        for name in sweep.objectives:
            if not math.isfinite(figures[name]):
                raise RunError(f"{name} is {figures[name]}")
        return [figures[name] for name in sweep.objectives]

    def refuse_repetition(self, choices: space.Choices) -> None:
        """The same choices give the same figures: another trial is drawn instead."""
        if self.longer or "continues" in self.trial.user_attrs:
            return
        for other in self.worker.store.records(longer=False):
            if other.number == self.trial.number or other.choices != choices or other.ended == "infeasible":
                continue
            # Of two that chose at once the earlier one is trained.
            if other.number < self.trial.number or "first" in other.notes:
                self.note(repeats=other.candidate)
                raise Infeasible(f"the same as trial {other.candidate}")
        self.note(first=True)

    def describe(self) -> dict[str, Any]:
        """Which trial this is: what it was queued with, and what its number gives."""
        sweep, known = self.worker.sweep, self.trial.user_attrs
        number = int(known.get("candidate", self.trial.number))
        fresh = {"candidate": number, "rung": 0, "seed": sweep.seed, "steps": sweep.budget.steps[0],
                 "run": f"{sweep.sweep}/trial-{number:04d}"}  # fmt: skip
        return {name: known.get(name, value) for name, value in fresh.items()}

    def given(self) -> list[str]:
        """What a study sets in every trial, over what its YAML sets."""
        sweep, notes = self.worker.sweep, self.notes
        own = {"experiment": sweep.sweep, "runs": str(sweep.out), "seed": notes["seed"],
               "training.max_steps": notes["steps"]}  # fmt: skip
        return [*space.assignments(sweep.set), *(space.assignment(key, value) for key, value in own.items())]

    def note(self, **values: Any) -> None:
        for name, value in values.items():
            self.trial.set_user_attr(name, value)

    def load(self, words: list[str]) -> Loaded[Experiment]:
        try:
            return load(self.worker.sweep.base, words, Experiment)
        except ConfigError as error:
            raise Infeasible(str(error.__context__ or error)) from None

    def check_bounds(self, experiment: Experiment) -> None:
        """Compute what is bounded, note it, and refuse what lies outside."""
        figures = {}
        try:
            for name, figure in self.worker.bounds.items():
                figures[name] = float(figure(experiment))
        except ValueError as error:
            raise Infeasible(str(error)) from None
        self.note(bounds=figures)
        broken = []
        for name, value in figures.items():
            bound = self.worker.sweep.constraints[name]
            excess = max(bound.at_least - value, value - bound.at_most)
            self.trial.set_constraint(name, excess)
            if excess > 0:
                broken.append(f"{name} is {value:.4g}")
        if broken:
            raise Infeasible("; ".join(broken))

    def job(self, loaded: Loaded[Experiment], figures: Mapping[str, float]) -> Job:
        sweep, notes = self.worker.sweep, self.notes
        parent = self.worker.store.search.user_attrs.get(PARENT)
        tags = {"sweep": sweep.sweep, "sweep.trial": str(notes["candidate"]), "sweep.rung": str(notes["rung"])}
        tags |= {f"sweep.{name}": str(value) for name, value in self.trial.params.items()}
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        logged = {name: o.metric for name, o in sweep.objectives.items() if isinstance(o, Logged)}
        return Job(loaded, notes["run"].rpartition("/")[2], tags, figures, logged, self.log_file)

    @property
    def log_file(self) -> Path:
        return self.worker.sweep.folder / "log" / f"{self.notes['run'].rpartition('/')[2]}.txt"

    def log(self, text: str) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("a") as file:
            file.write(text)

    def measured(self, curves: Curves) -> dict[str, float]:
        """The objectives that only the trained run gives."""
        from pocketdit.artifacts.run_folder import RunFolder

        sweep, found = self.worker.sweep, {}
        for name, objective in sweep.objectives.items():
            if isinstance(objective, Logged):
                try:
                    found[name] = value_at(objective.metric, curves, self.notes["steps"])
                except KeyError:
                    raise RunError(f"{objective.metric} was not logged at step {self.notes['steps']}") from None
            elif isinstance(objective, Scored):
                found[name] = float(self.worker.scored[name](RunFolder(sweep.out / self.notes["run"])))
        return found

    def stepped(self) -> None:
        if self.lost.is_set():
            raise Lost

    def validated(self, steps: int, values: Mapping[str, float]) -> None:
        self.stepped()
        if self.worker.sweep.pruner is None or self.longer:
            return
        (objective,) = self.worker.sweep.objectives.values()
        assert isinstance(objective, Logged)
        self.trial.report(value_of(objective.metric, values), steps)
        if steps < self.notes["steps"] and "baseline" not in self.trial.user_attrs and self.trial.should_prune():
            raise Pruned


def main() -> None:
    """``python -m sweeps.worker FILE INDEX``: a plain process, started by ``launchers.py``."""
    import signal

    from pocketdit.running.requirements import quiet_warnings

    quiet_warnings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sweep = load(Path(sys.argv[1]), [], Sweep).config
    try:
        with answering(sweep):
            work(sweep, int(sys.argv[2]), Path.cwd())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)


if __name__ == "__main__":
    main()

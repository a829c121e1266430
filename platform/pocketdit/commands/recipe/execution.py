"""Runs a recipe's tasks, each after the tasks that it needs."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.commands.recipe.launchers import Launcher
from pocketdit.commands.recipe.preparation import CODE, REPEATS, Prepared, prepare
from pocketdit.commands.recipe.reasons import reason_to_run
from pocketdit.commands.recipe.records import Output, Record, current_digest, load_record, save_record
from pocketdit.commands.recipe.settings import Build, Evaluate, Recipe, Train
from pocketdit.commands.recipe.tracking import PARENT_TAG, RecipeRun
from pocketdit.errors import RunError
from pocketdit.tracking.events import RunStatus

POLL_SECONDS = 0.2

Report = Callable[[str, str], None]
"""A function that receives the name of a task and a message about the task."""


@dataclass(frozen=True)
class Choice:
    """The choice of tasks to run.

    Attributes:
        repeated: Tasks that run even if they are up to date.
        only: The only tasks that may run, or None if all tasks may run.
        accept_code: Whether a task counts as up to date if only its code has changed.
    """

    repeated: Collection[str] = ()
    only: Collection[str] | None = None
    accept_code: bool = False


@dataclass(frozen=True)
class Decision:
    """The decision on whether a task runs.

    Attributes:
        reason: The reason why the task runs, or None if its result is up to date.
        record: The record of the last time that the task finished, or None if it has never finished.
        prepared: The task's inputs and command, or None if a task that it needs has to run first.
    """

    reason: str | None
    record: Record | None
    prepared: Prepared | None


def record_file(recipe: Recipe, name: str) -> Path:
    """Return the path of a task's record."""
    return recipe.folder / f"{name}.json"


def decide(recipe: Recipe, name: str, outputs: Mapping[str, Output], choice: Choice) -> Decision:
    """Decide whether a task runs.

    Args:
        recipe: The recipe.
        name: The name of the task.
        outputs: The output of each task that is up to date, by the task's name.
        choice: The choice of tasks to run.
    """
    task, record = recipe.tasks[name], load_record(record_file(recipe, name))
    missing = dict.fromkeys(needed for needed in task.needs().values() if needed not in outputs)
    if missing:
        return Decision(f"it needs new results of {', '.join(missing)}", record, None)
    repeats = 0 if record is None else int(record.inputs.get(REPEATS, 0))
    prepared = prepare(recipe, name, outputs, repeats + (name in choice.repeated))
    folder = RunFolder(prepared.folder)
    is_partial = isinstance(task, Train) and folder.config.is_file() and not folder.finished.is_file()
    if name in choice.repeated:
        return Decision("repeated by --from", record, prepared)
    inputs = prepared.inputs
    if choice.accept_code and record is not None and without_code(inputs) == without_code(record.inputs):
        inputs, is_partial = dict(record.inputs), False
    return Decision(reason_to_run(record, inputs, is_partial), record, prepared)


def without_code(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return all inputs except the digests of code."""
    return {key: value for key, value in inputs.items() if not key.startswith(CODE)}


def present_output(record: Record) -> Output:
    """Return the output of an up-to-date task, with the current digest of the output files."""
    digest = current_digest(record.output)
    assert digest is not None, "the files existed when the decision was made"
    return replace(record.output, digest=digest)


class Execution:
    """Runs the tasks of a recipe that are not up to date.

    Args:
        recipe: The recipe.
        launcher: The launcher that runs the tasks' commands.
        report: Function that is called with messages about the tasks.
        choice: The choice of tasks to run.
    """

    def __init__(self, recipe: Recipe, launcher: Launcher, report: Report, choice: Choice) -> None:
        self.recipe, self.launcher, self.report, self.choice = recipe, launcher, report, choice
        self.outputs: dict[str, Output] = {}
        self.running: dict[str, tuple[Prepared, float]] = {}
        self.failed: list[str] = []
        self.seconds: dict[str, float] = {}
        self.tracked: RecipeRun | None = None

    def run(self) -> dict[str, float]:
        """Run the tasks. If a task fails, the tasks that do not need it still run.

        Returns:
            The duration in seconds of each task that ran, by the task's name.

        Raises:
            RunError: At least one task failed, or a task that ``choice.only`` excludes is not up to date.
        """
        waiting = self._selected()
        status: RunStatus = "KILLED"
        try:
            self._run(waiting)
            status = "FAILED" if self.failed else "FINISHED"
        finally:
            if self.running:
                self.launcher.stop()
            if self.tracked is not None:
                self.tracked.finish(status)
        if self.failed:
            left = f", so these did not run: {', '.join(waiting)}" if waiting else ""
            raise RunError(f"{', '.join(self.failed)} failed{left}; to continue, run the same command again")
        return self.seconds

    def _run(self, waiting: list[str]) -> None:
        """Run the tasks in ``waiting``, and remove each one when it starts. Tasks that need a failed task remain."""
        while True:
            for name in list(waiting):
                if len(self.running) < self.launcher.jobs and self._is_ready(name):
                    waiting.remove(name)
                    self._begin(name)
            if not self.running:
                return
            for name in [name for name in self.running if self.launcher.status(name) is not None]:
                self._end(name)
            time.sleep(POLL_SECONDS if self.running else 0)

    def _selected(self) -> list[str]:
        """Return the selected tasks and all tasks that they need, in the order in which they run."""
        if self.choice.only is None:
            return self.recipe.order()
        graph, needed = self.recipe.graph(), set(self.choice.only)
        for name in reversed(self.recipe.order()):
            if name in needed:
                needed.update(graph[name])
        return [name for name in self.recipe.order() if name in needed]

    def _is_ready(self, name: str) -> bool:
        return all(needed in self.outputs for needed in self.recipe.tasks[name].needs().values())

    def _begin(self, name: str) -> None:
        """Start a task, unless it is up to date."""
        decision = decide(self.recipe, name, self.outputs, self.choice)
        prepared = decision.prepared
        assert prepared is not None, "a task only begins when the tasks that it needs have finished"
        if decision.reason is None:
            assert decision.record is not None, "an up-to-date task has a record"
            self.outputs[name] = present_output(decision.record)
            self.report(name, "up to date")
            return
        if self.choice.only is not None and name not in self.choice.only:
            raise RunError(f"--only: {name} is not up to date ({decision.reason}); add it to --only")
        # A data set's folder has a fixed name, so its files may have been built from other inputs.
        output = None if isinstance(self.recipe.tasks[name], Build) else prepared.output()
        if output is not None:
            self.report(name, "up to date (an earlier result has the same inputs)")
            self._keep(name, prepared, output, 0.0)
            return
        self.report(name, f"runs: {decision.reason}")
        self.running[name] = (prepared, time.monotonic())
        self.launcher.start(name, (*prepared.words, *self._tags(name)))
        if (log := self.launcher.log(name)) is not None:
            self.report(name, f"log: {log}")

    def _end(self, name: str) -> None:
        """Record the result of a task whose command has ended."""
        prepared, start = self.running.pop(name)
        self.seconds[name] = time.monotonic() - start
        status = self.launcher.status(name)
        output = prepared.output() if status == 0 else None
        if output is not None:
            self._keep(name, prepared, output, self.seconds[name])
            return
        self.failed.append(name)
        missing = f"{prepared.folder} does not contain {' and '.join(prepared.patterns)}"
        self.report(name, f"failed: {f'exit status {status}' if status else missing}")

    def _tags(self, name: str) -> tuple[str, ...]:
        """Return the option that makes a task's MLflow run a child of the recipe's run."""
        if not isinstance(self.recipe.tasks[name], Train | Evaluate):
            return ()
        if self.tracked is None:
            self.tracked = RecipeRun(self.recipe)
        run_id = self.tracked.run_id()
        return () if run_id is None else ("--tag", f"{PARENT_TAG}={run_id}")

    def _keep(self, name: str, prepared: Prepared, output: Output, seconds: float) -> None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        save_record(record_file(self.recipe, name), Record(prepared.inputs, output, seconds, now))
        self.outputs[name] = output
        if self.tracked is not None:
            self.tracked.log_task(name, output, seconds)

"""Implements ``lightning run`` for recipes. Modules that are slow to import are imported inside functions."""

import argparse
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pocketdit.commands.recipe.duration import duration
from pocketdit.config.errors import did_you_mean
from pocketdit.errors import ConfigError, RunInterruptedError

if TYPE_CHECKING:
    from pocketdit.commands.recipe.execution import Choice
    from pocketdit.commands.recipe.records import Output
    from pocketdit.commands.recipe.settings import Recipe, Task

OPTIONS = ("from_task", "only", "dry_run", "accept_code", "report")
EXPERIMENT_OPTIONS = ("plan", "resume", "name", "allow_changes")


def add_recipe_options(run: argparse.ArgumentParser) -> None:
    """Add the options that apply to recipes to ``lightning run``."""
    options = run.add_argument_group("recipes")
    options.add_argument(
        "--dry-run", action="store_true", help="show which tasks would run, why, and how long they last took"
    )
    options.add_argument("--report", action="store_true", help="write a report on the finished tasks, then exit")
    options.add_argument("--from", dest="from_task", metavar="TASK", help="repeat TASK and all tasks that depend on it")
    options.add_argument("--only", nargs="+", metavar="TASK", help="run only these tasks")
    options.add_argument(
        "--accept-code", action="store_true", help="do not repeat tasks for which only the code has changed"
    )


def is_recipe(path: Path) -> bool:
    """Return whether a YAML file contains a recipe rather than an experiment.

    Raises:
        ConfigError: The file does not contain a YAML mapping.
    """
    from pocketdit.config import document

    return "recipe" in document.read(path).values


def require_experiment(args: argparse.Namespace) -> None:
    """Raise ``ConfigError`` if an option for recipes is used with an experiment."""
    for option in OPTIONS:
        if getattr(args, option):
            name = "from" if option == "from_task" else option.replace("_", "-")
            raise ConfigError(f"--{name} only applies to recipes, and {args.file} is an experiment")


def call_recipe(args: argparse.Namespace) -> None:
    """Print a recipe's configuration, show which tasks would run, write the report, or run the recipe."""
    from pocketdit.commands.recipe.preparation import check_settings
    from pocketdit.commands.recipe.settings import Recipe
    from pocketdit.config.load import load

    for option in EXPERIMENT_OPTIONS:
        if getattr(args, option) not in (None, False):
            hint = "; use --dry-run" if option == "plan" else ""
            raise ConfigError(
                f"--{option.replace('_', '-')} only applies to experiments, and {args.file} is a recipe{hint}"
            )
    loaded = load(args.file, args.overrides, Recipe)
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    recipe = loaded.config
    choice = choice_of(args, recipe)
    check_settings(recipe)
    if args.report:
        print_report(recipe)
    elif args.dry_run:
        print(dry_run(recipe, choice))
    else:
        run_recipe(recipe, choice)


def choice_of(args: argparse.Namespace, recipe: "Recipe") -> "Choice":
    """Return the choice of tasks that the command-line options specify.

    Raises:
        ConfigError: An option names a task that does not exist.
    """
    from pocketdit.commands.recipe.execution import Choice

    named = {"--from": [args.from_task] if args.from_task else [], "--only": args.only or []}
    for option, tasks in named.items():
        for name in tasks:
            if name not in recipe.tasks:
                raise ConfigError(f"{option}: there is no task {name!r}{did_you_mean(name, recipe.tasks)}")
    repeated = recipe.dependents({args.from_task}) if args.from_task else set()
    return Choice(repeated, args.only, args.accept_code)


def dry_run(recipe: "Recipe", choice: "Choice") -> str:
    """Return a table that shows whether and why each task would run, and its last duration or stated cost."""
    from tabulate import tabulate

    from pocketdit.commands.recipe.execution import decide, present_output

    outputs: dict[str, Output] = {}
    rows = []
    for name in recipe.order():
        decision = decide(recipe, name, outputs, choice)
        record = decision.record
        took = stated_cost(recipe.tasks[name]) if record is None else f"{duration(record.seconds)} last time"
        if decision.reason is None:
            assert decision.record is not None
            outputs[name] = present_output(decision.record)
            rows.append([name, "up to date", took, ""])
        elif choice.only is not None and name not in choice.only:
            rows.append([name, "excluded by --only", took, decision.reason])
        else:
            rows.append([name, "runs", took, decision.reason])
    return tabulate(rows, ["task", "", "cost", "reason"], disable_numparse=True)


def stated_cost(task: "Task") -> str:
    """Return the cost in the comment "Cost: ..." of a task's YAML file, or an empty string if there is none."""
    from pocketdit.commands.recipe.settings import Build

    if isinstance(task, Build):
        return ""
    cost = re.search(r"^# Cost: ([^,;(\n]+?)(?:[,;(\n]|\. )", task.file.read_text(), re.MULTILINE)
    return cost[1] if cost else ""


def run_recipe(recipe: "Recipe", choice: "Choice") -> None:
    """Run the tasks that are not up to date, and print the progress and how long each task took."""
    from pocketdit.commands.recipe.execution import Execution
    from pocketdit.commands.recipe.launchers import build_launcher
    from pocketdit.locks import hold_lock

    recipe.folder.mkdir(parents=True, exist_ok=True)
    numbers = {name: number for number, name in enumerate(recipe.order(), 1)}

    def report(name: str, event: str) -> None:
        print(f"[{numbers[name]}/{len(numbers)}] {name}: {event}", flush=True)

    message = f"recipe {recipe.recipe} is already running; wait until it finishes, or stop it"
    start = time.monotonic()
    with hold_lock(recipe.folder / "lock", message), termination_as_interrupt():
        try:
            seconds = Execution(recipe, build_launcher(recipe), report, choice).run()
        except KeyboardInterrupt:
            raise RunInterruptedError("interrupted; to continue, run the same command again") from None
    print(summary(seconds, time.monotonic() - start))
    if seconds:
        print_report(recipe)


def print_report(recipe: "Recipe") -> None:
    """Write the report, and print its path."""
    from pocketdit.commands.recipe.report.page import write_report

    print(f"report   {write_report(recipe)}")


def summary(seconds: dict[str, float], total: float) -> str:
    """Summarize in one line how long the tasks took."""
    if not seconds:
        return "everything is up to date"
    tasks = ", ".join(f"{name} {duration(value)}" for name, value in seconds.items())
    return f"finished in {duration(total)}: {tasks}"


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C within the context, so that running tasks are stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

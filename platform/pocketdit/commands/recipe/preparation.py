"""Determines what a task reads and writes, and the command that runs it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.commands.recipe.records import Output, read_output
from pocketdit.commands.recipe.settings import Build, Evaluate, Export, Recipe, Train
from pocketdit.commands.recipe.source_code import source_digests
from pocketdit.config.experiment import kind_of
from pocketdit.config.load import Loaded, load
from pocketdit.config.shell import operand, setting
from pocketdit.errors import ConfigError, RunError
from pocketdit.running.requirements import require_role

# Settings that are not inputs of a task: either they do not change what it computes, or they refer to something that
# another input already identifies, such as the output of another task.
NOT_INPUTS = ("runs", "run", "out", "parents", "tracking", "decoder_run")
DATA_PATH = "data.init_args.path"
CODE = "code of "
REPEATS = "repeats"


@dataclass(frozen=True)
class Prepared:
    """A task that can run, because the tasks that it needs have finished.

    Attributes:
        inputs: Everything that the task depends on: the name of each input, and its value or digest.
        words: Arguments of the ``lightning`` command that runs the task.
        folder: The folder that the command writes to.
        patterns: Glob patterns. The task has finished if each of them matches a file in ``folder``.
    """

    inputs: dict[str, str]
    words: tuple[str, ...]
    folder: Path
    patterns: tuple[str, ...]

    def output(self) -> Output | None:
        """Return the output of the command, or None if the command has not finished."""
        files = []
        for pattern in self.patterns:
            matches = sorted(self.folder.glob(pattern))
            if not matches:
                return None
            files += matches
        return read_output(self.folder, files)


def load_task(task: Train | Evaluate | Export) -> Loaded[Any]:
    """Load the settings of a task, with the names of the tasks that it needs in place of their runs.

    The classes that the settings refer to are not imported.

    Raises:
        ConfigError: The settings are invalid.
    """
    overrides = placeholder_overrides(task)
    match task:
        case Train():
            return load(task.file, overrides, kind_of(task.file), classes=False)
        case Evaluate():
            from evaluation.settings import Evaluation

            return load(task.file, overrides, Evaluation, classes=False)
        case Export():
            from pocketdit.export.settings import settings_class

            return load(task.file, overrides, settings_class(task.file), classes=False)
        case _:
            assert_never(task)


def check_settings(recipe: Recipe) -> None:
    """Check the settings of all tasks before the first one runs.

    Raises:
        ConfigError: The settings of a task are invalid.
    """
    for name, task in recipe.tasks.items():
        if not isinstance(task, Build):
            loaded = load_task(task)
            if isinstance(task, Train):
                check_roles(name, task, loaded)


def check_roles(name: str, task: Train, loaded: Loaded[Any]) -> None:
    """Raise ``ConfigError`` if an experiment does not use a parent that its task names."""
    for role in task.parents:
        try:
            require_role(loaded, role)
        except ConfigError as error:
            raise ConfigError(f"tasks.{name}.{error}") from None


def placeholder_overrides(task: Train | Evaluate | Export) -> tuple[str, ...]:
    """Return a task's overrides. The names of the tasks that it needs are placeholders for their runs."""
    match task:
        case Train():
            return (*task.overrides, *(f"parents.{role}={name}" for role, name in task.parents.items()))
        case Evaluate():
            return (*task.overrides, f"run={task.run}")
        case Export():
            decoder = () if task.decoder is None else (f"decoder={task.decoder}",)
            return (*task.overrides, f"run={task.run}", *decoder)


def prepare(recipe: Recipe, name: str, outputs: Mapping[str, Output], repeats: int = 0) -> Prepared:
    """Determine the inputs and the command of a task.

    Args:
        recipe: The recipe.
        name: The name of the task.
        outputs: The outputs of the tasks that it needs, by task name.
        repeats: How many times the user has requested to repeat the task. This number is one of the inputs, so each
            repetition writes to a new folder.
    """
    task = recipe.tasks[name]
    inputs = {f"output of {needed}": outputs[needed].digest for needed in task.needs().values()}
    if repeats:
        inputs[REPEATS] = str(repeats)
    match task:
        case Build():
            inputs |= {"command": json.dumps([task.source, *task.options]), **source_of(task), **code(build_code(task))}
            words = ("data", "build", operand(task.source), operand(task.out), "--overwrite", *task.options)
            return Prepared(inputs, words, task.out, ("dataset.json",))
        case Train():
            loaded = load_task(task)
            inputs |= settings_of(loaded) | code(class_paths(loaded.resolved))
            return prepare_training(recipe, task, loaded.config.experiment, inputs, outputs)
        case Evaluate():
            loaded = load_task(task)
            inputs |= settings_of(loaded) | code([*class_paths(loaded.resolved), "evaluation.evaluate"])
            out = Path(loaded.config.out, recipe.recipe, f"{name}-{short_digest(inputs)}")
            words = ("evaluate", operand(task.file), *task.overrides, setting("run", outputs[task.run].folder))
            words += (setting("out", out), *tracking_overrides(recipe))
            return Prepared(inputs, words, out, ("*/*/results.json",))
        case Export():
            loaded = load_task(task)
            inputs |= settings_of(loaded) | code([f"pocketdit.export.{loaded.config.kind}.export"])
            out = Path(loaded.config.out, recipe.recipe, f"{name}-{short_digest(inputs)}")
            words = ("export", operand(task.file), *task.overrides, setting("run", outputs[task.run].folder))
            if task.decoder is not None:
                words += (setting("decoder", outputs[task.decoder].folder),)
            return Prepared(inputs, (*words, setting("out", out)), out, ("*/manifest.json",))
        case _:
            assert_never(task)


def prepare_training(
    recipe: Recipe, task: Train, experiment: str, inputs: dict[str, str], outputs: Mapping[str, Output]
) -> Prepared:
    """Determine the command of a training run. If a run with the same inputs exists, the command resumes it.

    The name of a run contains the digest of its inputs, so runs with different inputs have different folders.
    """
    run = f"{recipe.recipe}-{short_digest(inputs)}"
    folder = RunFolder(recipe.runs / experiment / run)
    words = ["run", operand(task.file), *task.overrides, setting("runs", recipe.runs), *tracking_overrides(recipe)]
    words += [setting(f"parents.{role}", outputs[parent].folder) for role, parent in task.parents.items()]
    if task.data is not None:
        words.append(setting(DATA_PATH, outputs[task.data].folder))
    words += ["--resume", f"{experiment}/{run}"] if folder.config.is_file() else ["--name", run]
    return Prepared(inputs, tuple(words), folder.path, ("weights.safetensors", "finished"))


def tracking_overrides(recipe: Recipe) -> tuple[str, ...]:
    """Return the overrides that apply the recipe's tracking settings to a task."""
    return (setting("tracking.uri", recipe.tracking.uri), setting("tracking.project", recipe.tracking.project))


def short_digest(inputs: Mapping[str, str]) -> str:
    """Return eight hexadecimal digits that identify a task's inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:8]


def settings_of(loaded: Loaded[Any]) -> dict[str, str]:
    """Return a mapping from the dotted keys of the settings that a task depends on to their values as JSON."""
    values = {key: value for key, value in loaded.resolved.items() if key not in NOT_INPUTS}
    return {key: json.dumps(value, sort_keys=True, default=str) for key, value in entries(values) if key != DATA_PATH}


def entries(values: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every scalar and every list in nested mappings."""
    if not isinstance(values, dict) or not values:
        yield above, values
        return
    for key, value in values.items():
        yield from entries(value, f"{above}.{key}" if above else str(key))


def class_paths(values: Any) -> list[str]:
    """Return all class paths in nested mappings and lists."""
    children = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    own = [str(values["class_path"])] if isinstance(values, dict) and "class_path" in values else []
    return own + [path for child in children for path in class_paths(child)]


def code(names: list[str]) -> dict[str, str]:
    """Return the digest of every source file that the named modules or classes depend on."""
    return {f"{CODE}{module}": digest for module, digest in source_digests(names).items()}


def build_code(task: Build) -> list[str]:
    """Return the import paths of the modules that build a data set."""
    match task.source:
        case "scenes":
            return ["datamodules.shards.build_generated", "datamodules.scenes.generator"]
        case "openmoji":
            return ["datamodules.shards.build_generated", "datamodules.pictograms.generator"]
        case _:
            return ["datamodules.imports.build"]


def source_of(task: Build) -> dict[str, str]:
    """Return a digest of the paths, sizes and modification times of a data set's source files.

    The dictionary is empty if the data set is generated.

    Raises:
        RunError: The source does not exist.
    """
    if task.source in ("scenes", "openmoji"):
        return {}
    source = Path(task.source)
    if not source.exists():
        raise RunError(f"source: {source} does not exist")
    digest = hashlib.sha256()
    for path in [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file()):
        stat = path.stat()
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return {"source files": digest.hexdigest()}

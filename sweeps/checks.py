"""Validates a study before its first trial runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.config import document
from pocketdit.config.component import Component, build
from pocketdit.config.errors import InvalidValueError, did_you_mean_or_all
from pocketdit.config.experiment import Experiment
from pocketdit.config.importing import import_class
from pocketdit.config.load import Loaded, load
from pocketdit.config.override import change
from pocketdit.errors import ConfigError
from sweeps import requirement
from sweeps.dimensions import Options, Scalar
from sweeps.metrics import unknown_metric_problem
from sweeps.objectives import Computed, Logged, Scored
from sweeps.overrides import KeyValue, flatten, load_experiment
from sweeps.settings import Sweep
from sweeps.space import (
    Params,
    Space,
    all_references,
    contains,
    param_overrides,
    references,
    used_references,
    values_to_check,
)

# These settings determine what a trial computes, so a study can be resumed only if they are unchanged.
DEFINING_KEYS = ("base", "set", "space", "objectives", "constraints", "require", "seed", "train")


def load_sweep(path: Path, overrides: Sequence[str]) -> Loaded[Sweep]:
    """Load a sweep file, whose ``base`` is relative to the working directory or to the folder of the sweep file.

    References to environment variables in ``set`` are not resolved, because the study's runs store these settings.

    Raises:
        ConfigError: The file is not a valid sweep.
    """
    loaded = load(path, overrides, Sweep)
    base = loaded.config.base
    beside = path.parent / base
    if not base.exists() and beside.exists():
        loaded = loaded.override([change("base", str(beside))])
    return replace(loaded, config=replace(loaded.config, set=loaded.resolved["set"]))


def check(loaded: Loaded[Sweep]) -> Loaded[Experiment]:
    """Check a study against its base experiment.

    Returns:
        The base experiment with the study's ``set`` applied.

    Raises:
        ConfigError: The experiment does not have a key, rejects a value regardless of the other parameters, or does not
            log an objective; a requirement names an unknown parameter; or the budget conflicts with the experiment's
            training settings. The message is one line with the file and line number.
    """
    sweep = loaded.config
    try:
        base = _load_base(sweep)
        _check_references(sweep)
        for name in sweep.space:
            _check_dimension(sweep, name)
        for index, text in enumerate(sweep.require):
            _check_requirement(sweep, text, f"require.{index}")
        for index, params in enumerate(sweep.baselines):
            _check_baseline(sweep, params, f"baselines.{index}")
        _check_objectives(sweep, base.config)
        _check_budget(sweep, base.config)
    except InvalidValueError as error:
        raise ConfigError(f"{document.read(loaded.path).place(error.key)}: {error}") from None
    return base


def check_computed(sweep: Sweep, experiment: Experiment) -> None:
    """Evaluate each computed objective and each constraint once, on the base experiment.

    Raises:
        ConfigError: An objective or constraint cannot be computed.
    """
    objectives = {name: o.of for name, o in sweep.objectives.items() if isinstance(o, Computed)}
    constraints = {name: bound.of for name, bound in sweep.constraints.items()}
    for group, components in (("objectives", objectives), ("constraints", constraints)):
        for name, component in components.items():
            try:
                float(build(component)(experiment))
            except (ValueError, TypeError, NotImplementedError) as error:
                raise ConfigError(f"{group}.{name}: {str(error).splitlines()[0]}") from error


def require_same_study(path: Path, sweep: Sweep) -> None:
    """Check that a study being resumed is the one that was started.

    Args:
        path: YAML file with the settings that the study was started with. If it does not exist, the check passes.
        sweep: The current settings.

    Raises:
        ConfigError: A setting that decides what a trial computes has changed.
    """
    from pocketdit.config.typed import plain
    from pocketdit.running.lineage import differences

    if not path.is_file():
        return
    before, now = plain(load_sweep(path, []).config), plain(sweep)
    for key, (old, new) in differences(before, now).items():
        rungs_changed = key == "budget.steps" and list(new)[: len(old)] != list(old)
        if key.split(".")[0] in DEFINING_KEYS or rungs_changed:
            raise ConfigError(
                f"{key}: {sweep.sweep} was started with {old}, not {new}, so its trials would not be comparable; "
                "give this study another name: sweep=NAME"
            )


def _load_base(sweep: Sweep) -> Loaded[Experiment]:
    settings = flatten(sweep.set)
    try:
        return load_experiment(sweep.base, settings)
    except ConfigError as error:
        combined = error
    load(sweep.base, [], Experiment)  # reports an error in the file itself as `lightning run` does
    for key, value in settings:
        try:
            load_experiment(sweep.base, [(key, value)])
        except ConfigError as error:
            if _is_about(error, key):
                raise InvalidValueError(f"set.{key}", f"{sweep.base}: {error.__context__ or error}") from None
    raise InvalidValueError("set", f"{sweep.base}: {combined.__context__ or combined}")


def _is_about(error: ConfigError, key: str) -> bool:
    """Return whether the key or its value is invalid by itself, rather than in combination with others.

    An error about a combination of keys names a common parent of the keys.
    """
    cause = error.__context__
    if not isinstance(cause, InvalidValueError) or f"{cause.key}.".startswith(f"{key}."):
        return True
    unknown = "unknown key" in str(cause) or "counted from 0" in str(cause)
    return unknown and f"{key}.".startswith(f"{cause.key}.")


def _check_references(sweep: Sweep) -> None:
    for name, dimension in sweep.space.items():
        for other in references(dimension):
            key = f"space.{name}"
            if other not in sweep.space:
                raise InvalidValueError(
                    key, f"${other} is not a dimension of the search space{did_you_mean_or_all(other, sweep.space)}"
                )
            target = sweep.space[other]
            if isinstance(target, Options):
                raise InvalidValueError(key, f"${other}: options cannot refer to other options")
            if target.keys:
                raise InvalidValueError(
                    f"space.{other}.keys", f"must be empty because options of {name} refer to {other}"
                )


def _check_dimension(sweep: Sweep, name: str) -> None:
    """Load the experiment with each value to check, keeping the other dimensions at their first values."""
    refused: list[str] = []
    values = values_to_check(sweep.space[name])
    for value in values:
        overrides = _overrides_of_value(sweep, name, value)
        try:
            load_experiment(sweep.base, [*flatten(sweep.set), *overrides])
        except ConfigError as error:
            problem = error.__context__ or error
            if any(_is_about(error, key) for key, _ in overrides):
                raise InvalidValueError(f"space.{name}", f"{sweep.base}: {problem}") from None
            refused.append(str(problem))
    if len(refused) == len(values):
        raise InvalidValueError(
            f"space.{name}", f"{sweep.base} does not accept any value of this dimension: {refused[0]}"
        )


def _overrides_of_value(sweep: Sweep, name: str, value: Scalar) -> list[KeyValue]:
    """Return the overrides for one value. If options refer to the dimension, use the first option that refers to it."""
    first = {other: values_to_check(dimension)[0] for other, dimension in sweep.space.items()}
    dimension = sweep.space[name]
    if isinstance(dimension, Options):
        return param_overrides(_with_references(sweep, name), first | {name: value})
    for other, options in sweep.space.items():
        if isinstance(options, Options) and name in references(options):
            part = _with_references(sweep, other)
            option = next(o for o in options.options if name in used_references(part, {other: o}))
            return param_overrides(part, first | {other: option, name: value})
    return [(key, value) for key in dimension.keys or (name,)]


def _with_references(sweep: Sweep, name: str) -> Space:
    """Restrict the space to a dimension and the dimensions that it refers to."""
    return {other: sweep.space[other] for other in (name, *references(sweep.space[name]))}


def _check_requirement(sweep: Sweep, text: str, key: str) -> None:
    try:
        for name in sorted(requirement.param_names(text)):
            if name not in sweep.space:
                hint = did_you_mean_or_all(name, [n for n in sweep.space if n.isidentifier()])
                raise InvalidValueError(key, f"{text!r}: {name} is not a dimension of the search space{hint}")
        first = {name: values_to_check(dimension)[0] for name, dimension in sweep.space.items()}
        requirement.is_satisfied(text, first)
    except ValueError as error:
        raise InvalidValueError(key, str(error)) from None


def _check_baseline(sweep: Sweep, params: Params, key: str) -> None:
    """Check that a baseline has exactly a trial's parameters, lies in the search space, and meets the requirements."""
    for name, value in params.items():
        if name not in sweep.space:
            raise InvalidValueError(
                f"{key}.{name}", f"not a dimension of the search space{did_you_mean_or_all(name, sweep.space)}"
            )
        if not contains(sweep.space[name], value):
            raise InvalidValueError(f"{key}.{name}", f"{value} is not in space.{name}")
    referenced, used = all_references(sweep.space), used_references(sweep.space, params)
    expected = [name for name in sweep.space if name not in referenced or name in used]
    for name in expected:
        if name not in params:
            raise InvalidValueError(key, f"{name} is missing")
    for name in params:
        if name not in expected:
            raise InvalidValueError(f"{key}.{name}", "none of the baseline's options refers to it; remove it")
    for text in sweep.require:
        if not requirement.is_satisfied(text, params):
            raise InvalidValueError(key, f"does not satisfy require: {text}")


def _check_objectives(sweep: Sweep, base: Experiment) -> None:
    for name, objective in sweep.objectives.items():
        key = f"objectives.{name}"
        match objective:
            case Logged() if problem := unknown_metric_problem(objective.metric, base):
                raise InvalidValueError(f"{key}.metric", problem)
            case Computed():
                _check_argument(objective.of, Experiment, f"{key}.of")
            case Scored():
                _check_argument(objective.of, RunFolder, f"{key}.of")
    for name, bound in sweep.constraints.items():
        _check_argument(bound.of, Experiment, f"constraints.{name}.of")


def _check_argument(component: Component, expected: type, key: str) -> None:
    """Check that instances of a class accept an argument of the expected type, if the argument is annotated."""
    hints = get_type_hints(import_class(component.class_path).__call__)
    argument = next((hint for name, hint in hints.items() if name != "return"), Any)
    if isinstance(argument, type) and not issubclass(expected, argument):
        problem = f"{component.class_path} takes {argument.__name__}, not {expected.__name__}"
        raise InvalidValueError(
            key, f"{problem}; use costs for computed objectives and constraints, and scores for scored objectives"
        )


def _check_budget(sweep: Sweep, base: Experiment) -> None:
    budget, training = sweep.budget, base.training
    if len(budget.steps) > 1 and training.decay != "constant":
        raise InvalidValueError(
            "budget.steps",
            f"a run with training.decay: {training.decay} cannot be continued past its last step; "
            "put training.decay: constant under set",
        )
    if any(isinstance(objective, Logged) for objective in sweep.objectives.values()):
        for steps in budget.steps:
            if training.validate_every == 0 or steps % training.validate_every:
                raise InvalidValueError(
                    "budget.steps",
                    f"{steps} is not a multiple of training.validate_every ({training.validate_every}), "
                    "so the objective would not be logged at the last step",
                )
    if sweep.pruner and sweep.pruner.least_steps < training.validate_every:
        raise InvalidValueError(
            "pruner.least_steps", f"must be at least training.validate_every ({training.validate_every})"
        )

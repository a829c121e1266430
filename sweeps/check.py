"""Everything that can be wrong with a study, found before its first trial; nothing heavy is imported."""

from pathlib import Path
from typing import Any

from pocketdit.config import document
from pocketdit.config.errors import InvalidValue, did_you_mean_or_all
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded, load
from pocketdit.errors import ConfigError
from sweeps import metrics, requirement
from sweeps.settings import Logged, Options, Scalar, Sweep
from sweeps.space import assignment, assignments, extremes, overrides, references, used, within


def check(loaded: Loaded[Sweep]) -> Loaded[Experiment]:
    """The base experiment with the study's ``set`` over it.

    Raises ``ConfigError``, in one line with the file and line, for a key that the experiment has not, a value that
    it refuses whatever else is chosen, an objective that it does not log, a requirement on no choice, a budget that
    its training cannot be cut into.
    """
    sweep = loaded.config
    try:
        base = _base(sweep)
        _check_references(sweep)
        for name in sweep.space:
            _check_dimension(sweep, base, name)
        for index, text in enumerate(sweep.require):
            _check_requirement(sweep, text, f"require.{index}")
        for index, choices in enumerate(sweep.baselines):
            _check_baseline(sweep, choices, f"baselines.{index}")
        _check_objectives(sweep, base.config)
        _check_budget(sweep, base.config)
    except InvalidValue as error:
        raise ConfigError(f"{document.read(loaded.path).place(error.key)}: {error}") from None
    return base


def _base(sweep: Sweep) -> Loaded[Experiment]:
    words = assignments(sweep.set)
    try:
        return load(sweep.base, words, Experiment)
    except ConfigError as error:
        whole = error
    load(sweep.base, [], Experiment)  # what is wrong with the file itself is said as `lightning run` says it
    for word in words:
        key = word.partition("=")[0]
        try:
            load(sweep.base, [word], Experiment)
        except ConfigError as error:
            if _about(error, key):
                raise InvalidValue(f"set.{key}", f"{sweep.base}: {error.__context__}") from None
    raise InvalidValue("set", f"{sweep.base}: {whole.__context__ or whole}")


def _about(error: ConfigError, key: str) -> bool:
    """Whether it is the key or its value that is refused, not how it goes with others (a key above is named then)."""
    cause = error.__context__
    return not isinstance(cause, InvalidValue) or f"{cause.key}.".startswith(f"{key}.") or _unknown(cause, key)


def _unknown(cause: InvalidValue, key: str) -> bool:
    return f"{key}.".startswith(f"{cause.key}.") and ("unknown key" in str(cause) or "counted from 0" in str(cause))


def _check_references(sweep: Sweep) -> None:
    for name, dimension in sweep.space.items():
        for other in references(dimension):
            key = f"space.{name}"
            if other not in sweep.space:
                raise InvalidValue(key, f"${other} is no choice{did_you_mean_or_all(other, sweep.space)}")
            target = sweep.space[other]
            if isinstance(target, Options):
                raise InvalidValue(key, f"${other}: options cannot stand in other options")
            if target.keys:
                raise InvalidValue(f"space.{other}.keys", f"options of {name} refer to it, so it sets no keys itself")


def _check_dimension(sweep: Sweep, base: Loaded[Experiment], name: str) -> None:
    """Every end or value of a dimension, the others at their first, put over the base."""
    refused: list[str] = []
    values = extremes(sweep.space[name])
    for value in values:
        try:
            base.override(_words(sweep, name, value))
        except ConfigError as error:
            problem = error.__context__ or error
            if any(_about(error, key) for key in _keys(sweep, name, value)):
                raise InvalidValue(f"space.{name}", f"{sweep.base}: {problem}") from None
            refused.append(str(problem))
    if len(refused) == len(values):
        raise InvalidValue(f"space.{name}", f"{sweep.base} takes no value of it: {refused[0]}")


def _words(sweep: Sweep, name: str, value: Any) -> list[str]:
    """What a value sets by itself; one that options refer to, by the first such option."""
    first = {other: extremes(dimension)[0] for other, dimension in sweep.space.items()}
    dimension = sweep.space[name]
    if isinstance(dimension, Options):
        return overrides({name: dimension, **_scalars(sweep, references(dimension))}, first | {name: value})
    for other, holder in sweep.space.items():
        if isinstance(holder, Options) and name in references(holder):
            option = next(o for o in holder.options if name in used({name: dimension, other: holder}, {other: o}))
            needed = {other: holder, **_scalars(sweep, references(holder))}
            return overrides(needed, first | {other: option, name: value})
    return [assignment(key, value) for key in dimension.keys or (name,)]


def _scalars(sweep: Sweep, names: set[str]) -> dict[str, Any]:
    return {name: sweep.space[name] for name in names}


def _keys(sweep: Sweep, name: str, value: Any) -> list[str]:
    return [word.partition("=")[0] for word in _words(sweep, name, value)]


def _check_requirement(sweep: Sweep, text: str, key: str) -> None:
    try:
        for name in sorted(requirement.names(text)):
            if name not in sweep.space:
                near = did_you_mean_or_all(name, [n for n in sweep.space if n.isidentifier()])
                raise InvalidValue(key, f"{text!r}: {name} is no choice{near}")
        requirement.holds(text, {name: extremes(dimension)[0] for name, dimension in sweep.space.items()})
    except ValueError as error:
        raise InvalidValue(key, str(error)) from None


def _check_baseline(sweep: Sweep, choices: dict[str, Scalar], key: str) -> None:
    """It makes every choice that a trial would, within the space, and meets the requirements."""
    for name, value in choices.items():
        if name not in sweep.space:
            raise InvalidValue(f"{key}.{name}", f"no choice of space{did_you_mean_or_all(name, sweep.space)}")
        if not within(sweep.space[name], value):
            raise InvalidValue(f"{key}.{name}", f"{value} is not in space.{name}")
    referred = {other for dimension in sweep.space.values() for other in references(dimension)}
    wanted = [name for name in sweep.space if name not in referred or name in used(sweep.space, choices)]
    for name in wanted:
        if name not in choices:
            raise InvalidValue(key, f"{name} is missing")
    for name in choices:
        if name not in wanted:
            raise InvalidValue(f"{key}.{name}", "goes with none of its options")
    for text in sweep.require:
        if not requirement.holds(text, choices):
            raise InvalidValue(key, f"does not meet require: {text}")


def _check_objectives(sweep: Sweep, base: Experiment) -> None:
    for name, objective in sweep.objectives.items():
        if isinstance(objective, Logged) and (problem := metrics.unknown(objective.metric, base)):
            raise InvalidValue(f"objectives.{name}.metric", problem)


def _check_budget(sweep: Sweep, base: Experiment) -> None:
    budget, training = sweep.budget, base.training
    if len(budget.steps) > 1 and training.decay != "constant":
        raise InvalidValue("budget.steps", f"training.decay is {training.decay}, so that a run cannot go on to more "
                           "steps than it began for; put training.decay: constant under set")  # fmt: skip
    if any(isinstance(objective, Logged) for objective in sweep.objectives.values()):
        for steps in budget.steps:
            if training.validate_every == 0 or steps % training.validate_every:
                raise InvalidValue("budget.steps", f"{steps} is no multiple of training.validate_every "
                                   f"({training.validate_every}): the objective would not be known")  # fmt: skip
    if sweep.pruner and sweep.pruner.least_steps < training.validate_every:
        raise InvalidValue("pruner.least_steps", f"is below training.validate_every ({training.validate_every})")


def require_same_study(path: Path, sweep: Sweep) -> None:
    """A study that goes on must be the one that began. ``path``: its settings as they were then.

    Raises ``ConfigError`` naming the first key of those that decide what a trial is.
    """
    from pocketdit.config.typed import plain
    from pocketdit.running.lineage import differences

    if not path.is_file():
        return
    before, now = plain(load(path, [], Sweep).config), plain(sweep)
    for key, (old, new) in differences(before, now).items():
        if key.split(".")[0] in ("base", "set", "space", "objectives", "constraints", "require", "seed", "train") or (
            key == "budget.steps" and list(new)[: len(old)] != list(old)
        ):
            raise ConfigError(f"{sweep.sweep} was begun with another {key} ({old}, now {new}): its trials could not be "
                              "compared. Give this study another name: sweep=NAME")  # fmt: skip

"""Chooses a trial's parameters from the search space and converts them to settings of the experiment."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, assert_never

from pocketdit.config.typed import plain
from sweeps.dimensions import Dimension, FloatRange, IntRange, Options, Scalar, Values
from sweeps.overrides import KeyValue

if TYPE_CHECKING:
    from optuna.trial import Trial

Space = Mapping[str, Dimension]
Params = dict[str, Scalar]


def suggest_params(space: Space, trial: "Trial") -> Params:
    """Return the parameters that the trial's sampler suggests.

    Dimensions that options refer to are suggested last, and only if the chosen options refer to them.
    """
    referenced = all_references(space)
    params = {name: _suggest(name, space[name], trial) for name in space if name not in referenced}
    for name in used_references(space, params):
        params[name] = _suggest(name, space[name], trial)
    return params


def _suggest(name: str, dimension: Dimension, trial: "Trial") -> Scalar:
    match dimension:
        case IntRange(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case FloatRange(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case Values(values=values):
            return trial.suggest_categorical(name, list(values))
        case Options(options=options):
            return trial.suggest_categorical(name, list(options))
        case _:
            assert_never(dimension)


def param_overrides(space: Space, params: Params) -> list[KeyValue]:
    """Return the experiment's settings for ``params``: first the chosen options, then single keys that refine them."""
    referenced = all_references(space)
    overrides: list[KeyValue] = []
    for name, dimension in space.items():
        if isinstance(dimension, Options):
            chosen = dimension.options[str(params[name])]
            overrides += [(key, _substitute(value, params)) for key, value in chosen.items()]
    for name, dimension in space.items():
        if not isinstance(dimension, Options) and name in params and name not in referenced:
            overrides += [(key, params[name]) for key in dimension.keys or (name,)]
    return overrides


def references(dimension: Dimension) -> set[str]:
    """Return the names of the dimensions that ``dimension`` refers to as ``$name``."""
    return set(_referenced_names(dimension.options)) if isinstance(dimension, Options) else set()


def all_references(space: Space) -> set[str]:
    """Return the names of all dimensions that others refer to."""
    return {name for dimension in space.values() for name in references(dimension)}


def used_references(space: Space, params: Params) -> list[str]:
    """Return the names of the dimensions that the chosen options refer to, in the order of the space."""
    used = {
        name
        for option, dimension in space.items()
        if isinstance(dimension, Options) and option in params
        for name in _referenced_names(dimension.options[str(params[option])])
    }
    return [name for name in space if name in used]


def values_to_check(dimension: Dimension) -> tuple[Scalar, ...]:
    """Return the values that represent a dimension in checks: both ends of a range, or all alternatives."""
    match dimension:
        case IntRange(low=low, high=high) | FloatRange(low=low, high=high):
            return (low, high)
        case Values(values=values):
            return values
        case Options(options=options):
            return tuple(options)
        case _:
            assert_never(dimension)


def contains(dimension: Dimension, value: Scalar) -> bool:
    """Return whether a value is in the dimension."""
    match dimension:
        case IntRange(low=low, high=high, step=step):
            return isinstance(value, int) and low <= value <= high and (value - low) % step == 0
        case FloatRange(low=low, high=high, step=step):
            if not isinstance(value, int | float) or not low <= value <= high:
                return False
            return step is None or math.isclose((value - low) / step, round((value - low) / step), abs_tol=1e-8)
        case Values(values=values):
            return value in values
        case Options(options=options):
            return value in options
        case _:
            assert_never(dimension)


def _referenced_names(value: Any) -> Iterator[str]:
    match plain(value):
        case dict() as mapping:
            for item in mapping.values():
                yield from _referenced_names(item)
        case list() as items:
            for item in items:
                yield from _referenced_names(item)
        case str() as text if _is_reference(text):
            yield text[1:]


def _substitute(value: Any, params: Params) -> Any:
    """Replace each ``$name`` in ``value`` with the value of that parameter."""
    match plain(value):
        case dict() as mapping:
            return {name: _substitute(item, params) for name, item in mapping.items()}
        case list() as items:
            return [_substitute(item, params) for item in items]
        case str() as text if _is_reference(text):
            return params[text[1:]]
        case other:
            return other


def _is_reference(text: str) -> bool:
    return text.startswith("$") and text[1:].isidentifier()

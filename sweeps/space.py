"""From a search space to choices, and from choices to settings of the experiment."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, assert_never

from pocketdit.config.typed import plain
from sweeps.settings import Dimension, FloatRange, IntRange, Options, Scalar, Values

if TYPE_CHECKING:
    from optuna.trial import Trial

Space = Mapping[str, Dimension]
Choices = dict[str, Scalar]


def choose(space: Space, trial: "Trial") -> Choices:
    """The trial's choices, made by its sampler. What options refer to comes after them, and only where it is used."""
    referred = {name for dimension in space.values() for name in references(dimension)}
    choices = {name: _suggest(name, space[name], trial) for name in space if name not in referred}
    for name in used(space, choices):
        choices[name] = _suggest(name, space[name], trial)
    return choices


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


def overrides(space: Space, choices: Choices) -> list[str]:
    """``key=value`` for every key that the choices set: options first, then the keys that refine them."""
    referred = {name for dimension in space.values() for name in references(dimension)}
    words = []
    for name, dimension in space.items():
        if isinstance(dimension, Options):
            for key, value in dimension.options[str(choices[name])].items():
                words.append(assignment(key, _fill(value, choices)))
    for name, dimension in space.items():
        if not isinstance(dimension, Options) and name in choices and name not in referred:
            words += [assignment(key, choices[name]) for key in dimension.keys or (name,)]
    return words


def assignment(key: str, value: Any) -> str:
    """``key=value`` as the command line takes it; JSON is YAML."""
    return f"{key}={json.dumps(plain(value))}"


def assignments(values: Mapping[str, Any], above: str = "") -> list[str]:
    """The same for a mapping, down to what is no mapping itself."""
    words = []
    for name, value in values.items():
        key = f"{above}{name}"
        words += assignments(value, f"{key}.") if isinstance(value, dict) and value else [assignment(key, value)]
    return words


def used(space: Space, choices: Choices) -> list[str]:
    """What the options taken refer to, in the order of the space."""
    wanted = {
        name
        for option, dimension in space.items()
        if isinstance(dimension, Options) and option in choices
        for name in _names(dimension.options[str(choices[option])])
    }
    return [name for name in space if name in wanted]


def references(dimension: Dimension) -> set[str]:
    """Other choices that a dimension's options stand on."""
    return set(_names(dimension.options)) if isinstance(dimension, Options) else set()


def extremes(dimension: Dimension) -> tuple[Scalar, ...]:
    """The values to try a dimension with: both ends of a range, all of a list."""
    match dimension:
        case IntRange(low=low, high=high) | FloatRange(low=low, high=high):
            return (low, high)
        case Values(values=values):
            return values
        case Options(options=options):
            return tuple(options)
        case _:
            assert_never(dimension)


def within(dimension: Dimension, value: Scalar) -> bool:
    """Whether a trial can choose it."""
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


def _names(value: Any) -> Iterator[str]:
    match plain(value):
        case dict() as mapping:
            for item in mapping.values():
                yield from _names(item)
        case list() as items:
            for item in items:
                yield from _names(item)
        case str() as text if _is_reference(text):
            yield text[1:]


def _fill(value: Any, choices: Choices) -> Any:
    match plain(value):
        case dict() as mapping:
            return {name: _fill(item, choices) for name, item in mapping.items()}
        case list() as items:
            return [_fill(item, choices) for item in items]
        case str() as text if _is_reference(text):
            return choices[text[1:]]
        case other:
            return other


def _is_reference(text: str) -> bool:
    return text.startswith("$") and text[1:].isidentifier()

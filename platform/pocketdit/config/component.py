"""A class that the configuration names (Lightning's class_path convention): what it takes, and how it is built."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pocketdit.config.errors import UNIONS
from pocketdit.config.importing import import_class
from pocketdit.errors import ConfigError

SCALARS = (int, float, bool, str, Path, NoneType)
SEQUENCES = (list, tuple, Sequence)
MAPPINGS = (dict, Mapping)


@dataclass(frozen=True)
class Component:
    """``class_path`` is importable (``package.module.Class``); ``init_args`` are keyword arguments for it."""

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, init=False)
class Given:
    """Arguments that the program supplies when it builds a component: ``Annotated[Component, Given("params")]``.

    The configuration must not set them, and the class must accept them.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


def build(component: Component, **given: Any) -> Any:
    """Import the class, build the components in ``init_args``, and call the class with these and ``given``.

    An argument that the class annotates as ``Component`` is passed on unbuilt: the class builds it with what only
    the class can supply.

    Raises:
        ConfigError: The import fails or the class rejects a value.
    """
    cls = import_class(component.class_path)
    kept = {name for name, parameter in arguments(cls)[0].items() if _takes_component(parameter.annotation)}
    built = {name: value if name in kept else _build_nested(value) for name, value in component.init_args.items()}
    try:
        return cls(**built | given)
    except ValueError as error:
        raise ConfigError(f"{component.class_path}: {' '.join(str(error).split())}") from error


def _build_nested(value: Any) -> Any:
    if isinstance(value, Component):
        return build(value)
    if isinstance(value, list | tuple):
        return type(value)(_build_nested(item) for item in value)
    if isinstance(value, dict):
        return {name: _build_nested(item) for name, item in value.items()}
    return value


def _takes_component(annotation: object) -> bool:
    return annotation is Component or any(_takes_component(part) for part in get_args(annotation))


@cache
def arguments(cls: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the named arguments of a class, and whether it takes others by ``**kwargs``.

    The annotation of an argument that YAML cannot express is ``Any``.
    """
    try:
        hints = get_type_hints(cls if is_dataclass(cls) else cls.__init__, include_extras=True)
    except (NameError, AttributeError):  # a name that is imported for type checkers only
        hints = {}
    found = inspect.signature(cls).parameters.values()
    named = (
        parameter for parameter in found if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in found)
    return {parameter.name: _typed(parameter, hints) for parameter in named}, open_ended


def _typed(parameter: inspect.Parameter, hints: dict[str, Any]) -> inspect.Parameter:
    annotation = expressible(hints.get(parameter.name, Any))
    optional = parameter.default is None and annotation is not Any
    return parameter.replace(annotation=annotation | None if optional else annotation)


def expressible(annotation: Any) -> Any:
    """Replace every part of an annotation that YAML cannot express by ``Any``.

    A tensor that is an alternative is left out: for YAML, ``float | Tensor`` is a float.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    base = origin or annotation
    if base is Annotated:
        known = [item for item in args[1:] if isinstance(item, Given | str)]
        return Annotated[(expressible(args[0]), *known)] if known else expressible(args[0])
    if base in UNIONS:
        members = [expressible(member) for member in args if not _is_tensor(member)]
        return Any if Any in members else Union[tuple(members)]  # noqa: UP007
    if base is Literal or base is Component or base in SCALARS:
        return annotation
    if base in (*SEQUENCES, *MAPPINGS):
        return base[tuple(arg if arg is ... else expressible(arg) for arg in args)] if args else base
    return Any


def _is_tensor(annotation: Any) -> bool:
    return getattr(annotation, "__module__", "") == "torch" and annotation.__name__ == "Tensor"

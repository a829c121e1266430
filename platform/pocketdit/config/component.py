"""A class that the configuration names, and the arguments for it (Lightning's class_path convention)."""

import importlib
import inspect
import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pocketdit.errors import ConfigError


@dataclass(frozen=True)
class Component:
    """``class_path`` is importable (``package.module.Class``); ``init_args`` are keyword arguments for it."""

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, init=False)
class Given:
    """``Annotated[Component, Given("params")]``: arguments that the program supplies when it builds it.

    They may not stand in the configuration, and the class must accept them.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


def build(component: Component, **given: Any) -> Any:
    """Import the class, build the components in ``init_args``, and call it with these and ``given``.

    An argument that the class annotates as ``Component`` is handed over as it is: the class builds it itself,
    with what only the class can supply. ``ConfigError`` if the import fails or the class refuses a value.
    """
    cls = import_class(component.class_path)
    parameters = inspect.signature(cls).parameters.values()
    kept = {parameter.name for parameter in parameters if _takes_component(parameter.annotation)}
    arguments = {name: value if name in kept else _build_nested(value) for name, value in component.init_args.items()}
    try:
        return cls(**arguments | given)
    except ValueError as error:
        raise ConfigError(f"{component.class_path}: {' '.join(str(error).split())}") from error


def import_class(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{class_path}: cannot be imported: {error}") from error


def _build_nested(value: Any) -> Any:
    if isinstance(value, Component):
        return build(value)
    if isinstance(value, list | tuple):
        return type(value)(_build_nested(item) for item in value)
    if isinstance(value, dict):
        return {name: _build_nested(item) for name, item in value.items()}
    return value


def _takes_component(annotation: object) -> bool:
    if isinstance(annotation, str):  # under `from __future__ import annotations`
        return re.search(r"\bComponent\b", annotation) is not None
    if get_origin(annotation) is Literal:
        return False
    return annotation is Component or any(_takes_component(part) for part in get_args(annotation))

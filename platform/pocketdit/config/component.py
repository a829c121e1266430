"""A class that the configuration names (Lightning's class_path convention): its arguments, and how it is built."""

import inspect
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from typing import Any, Optional, get_args, get_type_hints

from pocketdit.config.importing import import_class
from pocketdit.errors import ConfigError


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


@dataclass(frozen=True)
class Role:
    """What a component must be: ``Annotated[Component, Role("an autoencoder", ("encode", "decode"))]``.

    Attributes:
        name: The role, with its article, for messages.
        members: Attributes that the class must have.
        arguments: Arguments that its constructor must accept.
        foreign: Attributes that tell a similar role apart, which the class must not have.
    """

    name: str
    members: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    def problem(self, cls: Any) -> str | None:
        """Return why a class does not have this role, or None if it does."""
        named, open_ended = arguments(cls)
        missing = [name for name in self.members if not hasattr(cls, name)]
        missing += [name for name in self.arguments if name not in named and not open_ended]
        if missing:
            return f"{cls.__name__} is not {self.name}: it has no {missing[0]!r}"
        if any(hasattr(cls, name) for name in self.foreign):
            return f"{cls.__name__} is not {self.name}"
        return None


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
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        # The class passes its **kwargs on, to a base class for example, so only the call finds an unknown one.
        raise ConfigError(f"{component.class_path}: init_args: {error}") from error


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
    """Return the named arguments of a class with their real annotations, and whether it takes others by ``**kwargs``.

    An argument with the default None also accepts None. An argument without an annotation is annotated with ``Any``.
    """
    try:
        hints = get_type_hints(cls if is_dataclass(cls) else cls.__init__, include_extras=True)
    except (NameError, AttributeError):  # a name that is imported for type checkers only
        hints = {}
    named, open_ended = {}, False
    for name, parameter in inspect.signature(cls).parameters.items():
        annotation = hints.get(name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            optional = parameter.default is None and annotation is not Any
            named[name] = parameter.replace(annotation=Optional[annotation] if optional else annotation)  # noqa: UP045
    return named, open_ended

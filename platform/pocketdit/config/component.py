"""Components: classes that a configuration names by ``class_path``, as in Lightning, and their arguments."""

import inspect
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from typing import Any, Optional, get_args, get_type_hints

from pocketdit.config.importing import import_class
from pocketdit.errors import ConfigError


@dataclass(frozen=True)
class Component:
    """A class and its arguments.

    Attributes:
        class_path: Import path of the class, ``package.module.Class``.
        init_args: Keyword arguments of the class.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, init=False)
class Supplied:
    """Arguments that the program supplies when it builds a component: ``Annotated[Component, Supplied("params")]``.

    The class must accept these arguments, and the configuration must not set them.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class Role:
    """The role that a component must have: ``Annotated[Component, Role("an autoencoder", ("encode", "decode"))]``.

    Attributes:
        name: Name of the role for messages, including its article.
        members: Attributes that the class must have.
        arguments: Arguments that the constructor must accept.
        foreign: Attributes that the class must not have, because they would give it a similar but different role.
        either: Attributes of which the class must have at least one.
    """

    name: str
    members: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    either: tuple[str, ...] = ()

    def problem(self, cls: Any) -> str | None:
        """Return the reason why a class does not have this role, or None if it does."""
        named, open_ended = arguments(cls)
        missing = [name for name in self.members if not _defines(cls, name)]
        missing += [name for name in self.arguments if name not in named and not open_ended]
        if missing:
            return f"{cls.__name__} is not {self.name}: it has no {missing[0]!r}"
        if self.either and not any(_defines(cls, name) for name in self.either):
            return f"{cls.__name__} is not {self.name}: it has neither {' nor '.join(map(repr, self.either))}"
        if any(_defines(cls, name) for name in self.foreign):
            return f"{cls.__name__} is not {self.name}"
        return None


def _defines(cls: Any, name: str) -> bool:
    """Return whether a class defines or inherits an attribute. ``hasattr`` also searches its metaclass."""
    return any(name in vars(base) for base in inspect.getmro(cls)) if inspect.isclass(cls) else hasattr(cls, name)


def build(component: Component, **supplied: Any) -> Any:
    """Build an object from a component and from the arguments that the program supplies.

    Components in ``init_args`` are built first. An argument that the class annotates as ``Component`` is not built, so
    that the class can build it and supply further arguments.

    Raises:
        ConfigError: The import fails, or the class rejects a value.
    """
    cls = import_class(component.class_path)
    kept = {name for name, parameter in arguments(cls)[0].items() if _takes_component(parameter.annotation)}
    built = {name: value if name in kept else _build_nested(value) for name, value in component.init_args.items()}
    try:
        return cls(**built | supplied)
    except ValueError as error:
        raise ConfigError(f"{component.class_path}: {' '.join(str(error).split())}") from error
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        # If a class passes its **kwargs to another function, an unknown argument is detected only when the class
        # is instantiated.
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
    """Return the named arguments of a class with resolved annotations, and whether it also accepts ``**kwargs``.

    If the default of an argument is None, its annotation is made optional. A missing annotation is replaced by ``Any``.
    If Python does not know the arguments, as for some classes that are written in C, the result is empty.
    """
    try:
        hints = get_type_hints(cls if is_dataclass(cls) else cls.__init__, include_extras=True)
    except (NameError, AttributeError):  # an annotation uses a name that is only imported for type checkers
        hints = {}
    try:
        signature = inspect.signature(cls)
    except ValueError:
        return {}, False
    named, open_ended = {}, False
    for name, parameter in signature.parameters.items():
        annotation = hints.get(name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            optional = parameter.default is None and annotation is not Any
            named[name] = parameter.replace(annotation=Optional[annotation] if optional else annotation)  # noqa: UP045
    return named, open_ended

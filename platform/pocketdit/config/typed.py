"""Convert plain YAML values to typed objects and back."""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_protocol

from pocketdit.bounds import Between
from pocketdit.config.component import Component, Role, Supplied, arguments
from pocketdit.config.errors import (
    InvalidValueError,
    MissingKeyError,
    UnquotedTextError,
    did_you_mean,
    did_you_mean_or_all,
    did_you_mean_path,
    join,
    show,
)
from pocketdit.config.importing import import_class, require_module
from pocketdit.config.scalar import NAMES, Form, UnquotedError, to_scalar
from pocketdit.errors import ConfigError


def convert(value: Any, annotation: Any, key: str, *, classes: bool = True) -> Any:
    """Convert ``value``, as parsed from YAML, to an object of type ``annotation``.

    Args:
        value: Plain mappings, lists and scalars.
        annotation: Any combination of int, float, bool, str, Path, Literal, unions, dataclasses, unions of
            dataclasses that differ in ``kind: Literal[...]`` (one may lack this field), list, Sequence, tuple,
            ``dict[str, X]``, ``Component``, and ``Annotated`` with ``Between``, ``Form``, "exists", ``Supplied`` or
            ``Role``. ``Any`` and all other annotations accept any value, and a mapping that contains ``class_path``
            becomes a component.
        key: Dotted key of the value, for messages.
        classes: Whether to import the classes of components, check their arguments, and add default arguments.

    Raises:
        InvalidValueError: The value does not match the annotation.
    """
    return _convert(_Node(value, key, classes), annotation)


def plain(value: Any) -> Any:
    """Convert an object back to mappings, lists and scalars that YAML supports."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True)
class _Node:
    """A value with its key, and whether classes may be imported to convert it."""

    value: Any
    key: str
    classes: bool

    def child(self, part: Any) -> "_Node":
        return replace(self, value=self.value[part], key=join(self.key, part))

    def names(self) -> Iterator[str]:
        if not isinstance(self.value, dict):
            raise self.mismatch("a mapping")
        for name in self.value:
            if not isinstance(name, str):
                raise self.child(name).error("keys must be strings; put this key in quotes")
        return iter(self.value)

    def error(self, problem: str) -> InvalidValueError:
        return InvalidValueError(self.key, problem)

    def mismatch(self, expected: str, hint: str = "") -> InvalidValueError:
        return self.error(f"expected {expected}, got {show(self.value)}{hint}")


def _convert(node: _Node, annotation: Any) -> Any:
    args = get_args(annotation)
    base = get_origin(annotation) or annotation
    if base in NAMES:
        return _scalar(node, base)
    if base is Literal:
        return _literal(node, args)
    if base in (Union, types.UnionType):
        return _union(node, args)
    if base in (list, tuple, Sequence):
        return _sequence(node, base, args)
    if base in (dict, Mapping):
        return {name: _convert(node.child(name), args[1] if args else Any) for name in node.names()}
    if base is Annotated:
        return _annotated(node, *args)
    if base is Component:
        return _component(node)
    if is_dataclass(base):
        return _dataclass(node, base)
    return _untyped(node, [_role_of(base)] if is_protocol(base) else [])


def _scalar(node: _Node, kind: Any) -> Any:
    try:
        return to_scalar(node.value, kind)
    except UnquotedError as error:
        raise UnquotedTextError(node.key, str(error)) from None
    except ValueError as error:
        raise node.error(str(error)) from None


def _literal(node: _Node, choices: Sequence[Any]) -> Any:
    if any(type(node.value) is type(choice) and node.value == choice for choice in choices):
        return node.value
    raise node.error(f"{show(node.value)} is not one of {_one_of(choices)}{did_you_mean(node.value, choices)}")


def _union(node: _Node, members: Sequence[Any]) -> Any:
    """Convert a value to the first member of the union that accepts it, or to the dataclass that ``kind`` selects.

    YAML cannot represent tensors, so ``float | Tensor`` only accepts a float.
    """
    kinds, untagged = _kinds(members)
    if kinds and isinstance(node.value, dict):
        if "kind" in node.value:
            return _dataclass(node, kinds[_literal(node.child("kind"), list(kinds))])
        if untagged is None:
            raise MissingKeyError(node.key, f"missing required key 'kind'; set it to one of {_one_of(kinds)}")
        return _dataclass(node, untagged)
    members = [member for member in members if repr(member) != "<class 'torch.Tensor'>"]
    candidates = [member for member in members if (member is NoneType) == (node.value is None)] or members
    candidates.sort(key=lambda member: member is not type(node.value))  # for `float | str`, "3" is a string
    errors = []
    for member in candidates:
        try:
            return _convert(node, member)
        except InvalidValueError as error:
            errors.append(error)
    errors.sort(key=lambda error: error.key == node.key)  # prefer the member whose shape matches the value
    if len(errors) == 1 or errors[0].key != node.key:
        raise errors[0]
    choices = [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]
    raise node.mismatch(" or ".join(map(_describe, members)), did_you_mean(node.value, choices))


def _kinds(members: Sequence[Any]) -> tuple[dict[Any, Any], Any]:
    """Return a mapping from each ``kind`` to its dataclass in a union, and the dataclass without a ``kind``, if any."""
    classes = [cls for cls in members if is_dataclass(cls)]
    kinds = {kind: cls for cls in classes for kind in get_args(get_type_hints(cls).get("kind"))}
    return kinds, next((cls for cls in classes if cls not in kinds.values()), None)


def section_class(annotation: Any, value: Any) -> Any:
    """Return the dataclass whose fields are the keys of a section, or None if the value is not a section.

    Args:
        annotation: Type of the section: a dataclass or a union of dataclasses.
        value: The section.
    """
    if not isinstance(value, dict):
        return None
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation if is_dataclass(annotation) else None
    kinds, untagged = _kinds(get_args(annotation))
    kind = value.get("kind")
    return (kinds.get(kind) if isinstance(kind, str) else None) if "kind" in value else untagged


def _sequence(node: _Node, base: Any, items: tuple[Any, ...]) -> Any:
    if not isinstance(node.value, list):
        raise node.mismatch("a list")
    if base is not tuple or not items or ... in items:
        items = (items or (Any,))[:1] * len(node.value)
    if len(node.value) != len(items):
        raise node.error(f"expected a list of {len(items)} items, got {len(node.value)}")
    return (tuple if base is tuple else list)(_convert(node.child(i), item) for i, item in enumerate(items))


def _annotated(node: _Node, annotation: Any, *metadata: Any) -> Any:
    if annotation is Component:
        supplied = [name for item in metadata if isinstance(item, Supplied) for name in item.names]
        return _component(node, supplied, [item for item in metadata if isinstance(item, Role)])
    for item in metadata:
        if isinstance(item, Form) and not isinstance(node.value, str):
            raise node.error(f"must be {item}, not {show(node.value)}")
    value = _convert(node, annotation)
    for item in metadata:
        if isinstance(item, Between) and not item.contains(value):
            raise node.error(f"must be {item}, not {show(value)}")
    if "exists" in metadata and not value.exists():
        raise node.error(f"{str(value)!r} does not exist{did_you_mean_path(value)}")
    return value


def _dataclass(node: _Node, cls: Any) -> Any:
    converted = _arguments(node, arguments(cls)[0])
    try:
        return cls(**converted)
    except ValueError as error:
        raise node.error(" ".join(str(error).split())) from None


def _arguments(node: _Node, parameters: Mapping[str, inspect.Parameter], owner: str = "", more: bool = False) -> Any:
    """Convert a mapping of arguments. ``owner`` is added to messages about keys, and ``more`` allows unknown keys."""
    for name in node.names():
        if name not in parameters and not more:
            raise node.child(name).error(f"unknown key{owner}{did_you_mean_or_all(name, parameters)}")
    for name, parameter in parameters.items():
        if name not in node.value and parameter.default is parameter.empty:
            raise MissingKeyError(node.key, f"missing required key {name!r}{owner}")
    return {name: _argument(node.child(name), parameters.get(name)) for name in node.names()}


def _argument(node: _Node, parameter: inspect.Parameter | None) -> Any:
    if parameter is None:
        return _convert(node, Any)
    # A default is always valid, including an infinite one, so that a saved configuration can be loaded.
    if isinstance(node.value, float) and node.value == parameter.default:
        return parameter.default
    return _convert(node, parameter.annotation)


@dataclass(frozen=True)
class _Outline:
    class_path: str
    init_args: dict[str, Any] | None = None


def _component(node: _Node, supplied: Sequence[str] = (), roles: Sequence[Role] = ()) -> Component:
    """Check the structure of a component and, if classes may be imported, its roles and arguments."""
    if isinstance(node.value, str):
        raise node.mismatch("a mapping", f"; write {{class_path: {node.value}}}")
    _dataclass(replace(node, classes=False), _Outline)
    path = node.child("class_path")
    written = replace(node, value=node.value.get("init_args") or {}, key=join(node.key, "init_args"))
    try:
        (import_class if node.classes else require_module)(path.value)
    except (ConfigError, ValueError) as error:  # ValueError: modules such as __main__ have no __spec__
        raise path.error(str(error)) from None
    if not node.classes:
        return Component(path.value, dict(written.value))
    cls = import_class(path.value)
    for problem in filter(None, (role.problem(cls) for role in roles)):
        raise path.error(problem)
    parameters, open_ended = arguments(cls)
    for name in supplied:
        if name not in parameters and not open_ended:
            raise path.error(f"{cls.__name__} does not accept the argument {name!r}, which the program supplies")
        if name in written.value:
            raise written.child(name).error(f"the program supplies this argument of {cls.__name__}; remove it")
    parameters = {name: parameter for name, parameter in parameters.items() if name not in supplied}
    values = _defaults(cls) | _arguments(written, parameters, f" of {cls.__name__}", open_ended)
    return Component(path.value, {name: values[name] for name in (*parameters, *written.value) if name in values})


@cache
def _defaults(cls: Any) -> dict[str, Any]:
    """Return the default arguments that YAML can represent without changes."""
    defaults: dict[str, Any] = {}
    for name, parameter in arguments(cls)[0].items():
        if type(parameter.default) in (int, float, bool, str, list, tuple, dict, NoneType):
            with suppress(InvalidValueError):
                value = convert(plain(parameter.default), parameter.annotation, name)
                defaults |= {name: value} if value == parameter.default else {}
    return defaults


def _role_of(protocol: type) -> Role:
    """Return the role that a protocol describes: a component must have the protocol's methods."""
    methods = [name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")]
    return Role(f"a {protocol.__name__}", tuple(methods))


def _untyped(node: _Node, roles: Sequence[Role] = ()) -> Any:
    """Convert the components within a value of any type."""
    if isinstance(node.value, list):
        return [_untyped(node.child(i)) for i in range(len(node.value))]
    if not isinstance(node.value, dict):
        return node.value
    if "class_path" in node.value:
        return _component(node, roles=roles)
    return {name: _untyped(node.child(name)) for name in node.value}


def _describe(annotation: Any) -> str:
    """Describe the YAML values that a member of a union accepts."""
    if get_origin(annotation) is Annotated:
        return _describe(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return f"one of {_one_of(get_args(annotation))}"
    if (get_origin(annotation) or annotation) in (list, tuple, Sequence):
        return "a list"
    return NAMES.get(annotation, "a mapping")


def _one_of(choices: Any) -> str:
    return ", ".join(map(repr, choices))

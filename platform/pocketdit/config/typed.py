"""Plain YAML values to typed ones and back. Every failure is one line with the key it is about."""

import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pocketdit.config.component import Component, Given
from pocketdit.config.errors import (
    InvalidValue,
    MissingKey,
    describe,
    did_you_mean,
    did_you_mean_or_all,
    did_you_mean_path,
    join,
    one_of,
    show,
)
from pocketdit.config.signature import Parameter, signature

# Numbers that arrive as text: 2e-3 from YAML 1.1, environment variables, "${a}000".
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
SCALARS = (int, float, bool, str, Path, types.NoneType)


def convert(value: Any, annotation: Any, key: str) -> Any:
    """``value`` (as parsed from YAML) as an object of type ``annotation``.

    Covers int, float, bool, str, Path, Literal, unions, dataclasses, unions of dataclasses that differ in
    ``kind: Literal[...]``, list, Sequence, tuple, dict[str, X], ``Annotated[Path, "exists"]``, ``Component``
    (its arguments are checked against the signature of the class) and ``Annotated[Component, Given(...)]``.
    ``Any`` takes everything, and a mapping with ``class_path`` in it is a component.

    Raises ``InvalidValue``; ``TypeError`` for an annotation outside this list.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    base = origin or annotation
    if base is Any or base is object:
        return _untyped(value, key)
    if base is Annotated:
        return _annotated(value, args[0], args[1:], key)
    if base is Union or base is types.UnionType:
        return _union(value, args, key)
    if base is Literal:
        return _literal(value, args, key)
    if base is Component:
        return _component(value, (), key)
    if is_dataclass(base):
        return _dataclass(value, base, key)
    if base in (list, tuple, Sequence):
        return _sequence(value, annotation, base, args, key)
    if base in (dict, Mapping):
        item = args[1] if args else Any
        return {name: convert(entry, item, join(key, name)) for name, entry in _mapping(value, key).items()}
    if base in SCALARS:
        return _scalar(value, base, key)
    raise TypeError(f"{key}: no rule for values of type {annotation}")


def plain(value: Any) -> Any:
    """The reverse of ``convert``: dataclasses, paths and tuples as what YAML can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _scalar(value: Any, kind: type, key: str) -> Any:
    number = value
    if isinstance(value, str) and NUMBER.fullmatch(value):
        number = int(value) if value.lstrip("+-").isdecimal() else float(value)
    if kind in (int, float) and isinstance(number, int | float) and not isinstance(number, bool):
        if kind is float and not math.isnan(number):
            return float(number)
        if kind is int and (isinstance(number, int) or number.is_integer()):
            return int(number)
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    if kind in (bool, str, types.NoneType) and type(value) is kind:
        return value
    hint = "; put it in quotes" if kind is str and isinstance(value, int | float) else ""
    raise InvalidValue(key, f"expected {describe(kind)}, got {show(value)}{hint}")


def _literal(value: Any, choices: tuple[Any, ...], key: str) -> Any:
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return choice
    raise InvalidValue(key, f"{show(value)} is not one of {one_of(choices)}{did_you_mean(value, choices)}")


def _union(value: Any, members: tuple[Any, ...], key: str) -> Any:
    if value is None and types.NoneType in members:
        return None
    candidates = [member for member in members if member is not types.NoneType]
    tagged = {kind: member for member in candidates if is_dataclass(member) for kind in _kinds(member)}
    if tagged and isinstance(value, dict):
        if "kind" not in value:
            raise InvalidValue(key, f"missing required key 'kind', one of {one_of(tagged)}")
        return _dataclass(value, tagged[_literal(value["kind"], tuple(tagged), join(key, "kind"))], key)
    if len(candidates) == 1:
        return convert(value, candidates[0], key)
    candidates.sort(key=lambda member: type(value) is not member)  # for `float | str`, '3' is text
    deeper = None
    for candidate in candidates:
        try:
            return convert(value, candidate, key)
        except InvalidValue as error:
            if error.key != key:  # the value has this candidate's shape, so its complaint is the useful one
                deeper = deeper or error
    if deeper:
        raise deeper
    literals = [member for member in candidates if get_origin(member) is Literal]
    choices = [choice for literal in literals for choice in get_args(literal)]
    expected = " or ".join(map(describe, members))
    raise InvalidValue(key, f"expected {expected}, got {show(value)}{did_you_mean(value, choices)}")


def _annotated(value: Any, annotation: Any, metadata: tuple[Any, ...], key: str) -> Any:
    given = next((item.names for item in metadata if isinstance(item, Given)), ())
    if annotation is Component:
        return _component(value, given, key)
    converted = convert(value, annotation, key)
    if annotation is Path and "exists" in metadata and not converted.exists():
        raise InvalidValue(key, f"{str(converted)!r} does not exist{did_you_mean_path(converted)}")
    return converted


def _sequence(value: Any, annotation: Any, base: Any, args: tuple[Any, ...], key: str) -> Any:
    if not isinstance(value, list):
        raise InvalidValue(key, f"expected {describe(annotation)}, got {show(value)}")
    fixed = base is tuple and args and args[-1] is not Ellipsis
    if fixed and len(value) != len(args):
        raise InvalidValue(key, f"expected a list of {len(args)}, got {len(value)} items")
    kinds = args if fixed else (args[0] if args else Any,) * len(value)
    items = [convert(item, kinds[i], join(key, i)) for i, item in enumerate(value)]
    return tuple(items) if base is tuple else items


def _dataclass(value: Any, cls: Any, key: str) -> Any:
    known = {field.name: field for field in fields(cls) if field.init}
    mapping = _mapping(value, key, known)
    hints = typing.get_type_hints(cls, include_extras=True)
    for name, field in known.items():
        if name not in mapping and field.default is MISSING and field.default_factory is MISSING:
            raise MissingKey(key, name)
    arguments = {name: convert(item, hints[name], join(key, name)) for name, item in mapping.items()}
    try:
        return cls(**arguments)
    except ValueError as error:
        raise InvalidValue(key, " ".join(str(error).split())) from None


def _component(value: Any, given: tuple[str, ...], key: str) -> Component:
    if isinstance(value, str):
        raise InvalidValue(key, f"expected a mapping, got {show(value)}; write {{class_path: {value}}}")
    mapping = _mapping(value, key, ("class_path", "init_args"))
    if "class_path" not in mapping:
        raise MissingKey(key, "class_path")
    class_path = convert(mapping["class_path"], str, join(key, "class_path"))
    try:
        found = signature(class_path)
    except ValueError as error:
        raise InvalidValue(join(key, "class_path"), str(error)) from None
    owner = class_path.rpartition(".")[2]
    for name in given:
        if name not in found.parameters and not found.accepts_extra:
            problem = f"{owner} takes no argument {name!r}, which the program supplies"
            raise InvalidValue(join(key, "class_path"), problem)
    key = join(key, "init_args")
    written = _mapping({} if mapping.get("init_args") is None else mapping["init_args"], key)
    settable = {name: parameter for name, parameter in found.parameters.items() if name not in given}
    for name in written:
        if name in given:
            raise InvalidValue(join(key, name), f"the program supplies this argument of {owner}; remove it")
        if name not in settable and not found.accepts_extra:
            near = did_you_mean_or_all(name, settable)
            raise InvalidValue(join(key, name), f"unknown key of {owner}{near}")
    arguments = {}
    for name, parameter in settable.items():
        if name in written:
            arguments[name] = convert(written[name], parameter.annotation, join(key, name))
        elif parameter.required:
            raise MissingKey(key, name, owner)
        else:
            arguments |= _default(parameter, join(key, name))
    extra = {name: _untyped(item, join(key, name)) for name, item in written.items() if name not in settable}
    return Component(class_path, arguments | extra)


def _default(parameter: Parameter, key: str) -> dict[str, Any]:
    """The default as an entry of ``init_args``, if it comes back unchanged from YAML."""
    if not isinstance(parameter.default, int | float | str | list | tuple | dict | None):
        return {}
    try:
        default = convert(plain(parameter.default), parameter.annotation, key)
    except InvalidValue:
        return {}
    return {parameter.name: default} if default == parameter.default else {}


def _untyped(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        if "class_path" in value:
            return _component(value, (), key)
        return {name: _untyped(item, join(key, name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_untyped(item, join(key, i)) for i, item in enumerate(value)]
    return value


def _mapping(value: Any, key: str, known: typing.Iterable[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidValue(key, f"expected a mapping, got {show(value)}")
    for name in value:
        if not isinstance(name, str):
            raise InvalidValue(join(key, name), "keys must be text; put it in quotes")
        if known is not None and name not in known:
            raise InvalidValue(join(key, name), f"unknown key{did_you_mean_or_all(name, known)}")
    return value


def _kinds(cls: Any) -> tuple[Any, ...]:
    return get_args(typing.get_type_hints(cls).get("kind"))

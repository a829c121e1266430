"""Plain YAML values to typed objects and back: pydantic converts and checks, and the one-line messages are ours.

The types are standard dataclasses that know nothing of pydantic. ``rule`` turns an annotation into one that pydantic
checks as strictly as a configuration should be checked.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import cache, reduce
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NotRequired, Required, get_args, get_origin, get_type_hints

import pydantic
from pydantic import AfterValidator, PlainValidator, TypeAdapter, ValidationError, ValidationInfo, WrapValidator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from pocketdit.config.component import (
    MAPPINGS,
    SCALARS,
    SEQUENCES,
    Component,
    Given,
    arguments,
)
from pocketdit.config.errors import (
    UNIONS,
    InvalidValue,
    did_you_mean_or_all,
    did_you_mean_path,
    join,
    mismatch,
    one_of,
    show,
)
from pocketdit.config.importing import import_class, require_module
from pocketdit.errors import ConfigError


def convert(value: Any, annotation: Any, key: str, *, classes: bool = True) -> Any:
    """Convert ``value``, as parsed from YAML, to an object of type ``annotation``.

    Args:
        value: Plain mappings, lists and scalars.
        annotation: Any combination of int, float, bool, str, Path, Literal, unions, dataclasses, unions of
            dataclasses that differ in ``kind: Literal[...]``, list, Sequence, tuple, ``dict[str, X]``,
            ``Annotated[Path, "exists"]``, ``Component`` and ``Annotated[Component, Given(...)]``. ``Any`` accepts
            everything, and treats a mapping with ``class_path`` in it as a component.
        key: The dotted key of the value, for the message.
        classes: Whether to import the classes of components, check their arguments and add the default ones.

    Raises:
        InvalidValue: One line with the key and the problem.
        TypeError: The annotation is none of the above.
    """
    try:
        return _adapter(annotation).validate_python(value, context=classes)
    except ValidationError as error:
        line = error.errors(include_url=False)[0]
    parts = [part for part in line["loc"] if part != "[key]"]
    problem = " ".join(line["msg"].removeprefix("Value error, ").split())
    shown = reduce(join, parts[:-1], key) if line["type"] == "missing" else None
    raise InvalidValue(reduce(join, parts, key), problem, shown)


def plain(value: Any) -> Any:
    """Reverse ``convert``: dataclasses, paths and tuples become what YAML can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(rule(annotation))


def rule(annotation: Any) -> Any:
    """Return the annotation for pydantic, with this project's strictness and messages attached."""
    args = get_args(annotation)
    base = get_origin(annotation) or annotation
    if base is Annotated:
        return _annotated(args[0], args[1:])
    if base in UNIONS:
        return _union(annotation)
    if base is Any or base is object:
        return Annotated[Any, PlainValidator(_untyped)]
    if base is Component:
        return _component(())
    if is_dataclass(base):
        return _dataclass(base)
    if base in SEQUENCES:
        items = [arg if arg is ... else rule(arg) for arg in args] or [rule(Any), *[...][: base is tuple]]
        fixed = base is tuple and ... not in items
        return _worded(annotation, base[tuple(items)], lambda value: not fixed or len(value) == len(items))
    if base in MAPPINGS:
        return _worded(annotation, base[Any if Any in args[:1] else _KEY, rule(args[1] if args else Any)])
    if base is Literal:
        return _worded(annotation, annotation, lambda value: type(value) in map(type, args))
    if base in SCALARS:
        expanded = Annotated[Path, AfterValidator(Path.expanduser)]
        return _worded(annotation, expanded if base is Path else base, _ACCEPTED.get(base, _anything))
    raise TypeError(f"no rule for values of type {annotation}")


def _anything(value: Any) -> bool:
    return True


def _key(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError("keys must be text; put it in quotes")
    return name


_KEY: Any = Annotated[Any, AfterValidator(_key)]
# pydantic converts more than a configuration should leave to chance: True to 1 and "yes" to True.
_ACCEPTED: dict[Any, Callable[[Any], bool]] = {
    int: lambda value: not isinstance(value, bool),
    float: lambda value: not isinstance(value, bool),
    bool: lambda value: isinstance(value, bool),
    Path: lambda value: value != "",
}


def _worded(annotation: Any, inner: Any, accepted: Callable[[Any], bool] = _anything) -> Any:
    """Replace pydantic's message about the value; messages about a part of it come from the part's own rule."""

    def check(value: Any, handler: Any) -> Any:
        try:
            converted = handler(value)
        except ValidationError as error:
            if error.errors()[0]["loc"] and accepted(value):
                raise
        else:
            if accepted(value) and converted == converted:  # not NaN
                return converted
        raise ValueError(mismatch(value, annotation))

    return Annotated[inner, WrapValidator(check)]


def _annotated(annotation: Any, metadata: tuple[Any, ...]) -> Any:
    if annotation is Component:
        return _component(next((item.names for item in metadata if isinstance(item, Given)), ()))
    return Annotated[rule(annotation), AfterValidator(_existing)] if "exists" in metadata else rule(annotation)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"{str(path)!r} does not exist{did_you_mean_path(path)}")
    return path


def _untyped(value: Any, info: ValidationInfo) -> Any:
    """Find the components within a value of any type."""
    if isinstance(value, dict):
        annotation: Any = Component if "class_path" in value else dict[Any, Any]
    elif isinstance(value, list):
        annotation = list[Any]
    else:
        return value
    return _adapter(annotation).validate_python(value, context=info.context)


def _union(annotation: Any) -> Any:
    """Try the members in turn; a mapping is the dataclass that its ``kind`` names.

    pydantic's own unions are not used because they put the names of members into the location of an error.
    """
    members = get_args(annotation)
    kinds = {kind: cls for cls in members if is_dataclass(cls) for kind in get_args(get_type_hints(cls).get("kind"))}
    tag = Required[rule(Literal[tuple(kinds)])] if kinds else Any
    tagged = TypeAdapter(_mapping({"kind": tag}, f", one of {one_of(kinds)}", closed=False))

    def choose(value: Any, info: ValidationInfo) -> Any:
        candidates = [member for member in members if (member is NoneType) == (value is None)] or list(members)
        candidates.sort(key=lambda member: type(value) is not member)  # for `float | str`, '3' is text
        if kinds and isinstance(value, dict):
            candidates = [kinds[tagged.validate_python(value)["kind"]]]
        errors = []
        for member in candidates:
            try:
                return _adapter(member).validate_python(value, context=info.context)
            except ValidationError as error:
                errors.append(error)
        deeper = [error for error in errors if error.errors()[0]["loc"]]  # the value has this member's shape
        if deeper or len(errors) == 1:
            raise (deeper or errors)[0]
        raise ValueError(mismatch(value, annotation))

    return Annotated[Any, PlainValidator(choose)]


def _dataclass(cls: Any) -> Any:
    hints = get_type_hints(cls, include_extras=True)
    parameters = [p.replace(annotation=hints[p.name]) for p in inspect.signature(cls).parameters.values()]
    return Annotated[_mapping(_entries(parameters)), AfterValidator(lambda arguments: cls(**arguments))]


def _entries(parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    return {p.name: (Required if p.default is p.empty else NotRequired)[rule(p.annotation)] for p in parameters}


def _mapping(entries: dict[str, Any], owner: str = "", closed: bool = True) -> Any:
    """Return a mapping of these ``Required`` and ``NotRequired`` keys. ``owner`` ends the messages about its keys."""
    strict = pydantic.with_config(extra="forbid" if closed else "ignore")
    shape: Any = strict(TypedDict("shape", entries))  # type: ignore[operator]

    def check(value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            own = {line["type"]: line["loc"] for line in reversed(error.errors()) if len(line["loc"]) < 2}
            if "dict_type" in own:
                raise ValueError(mismatch(value, dict)) from None
            if key := own.get("invalid_key"):
                raise _at(key, "keys must be text; put it in quotes") from None
            if key := own.get("extra_forbidden"):
                raise _at(key, f"unknown key{owner}{did_you_mean_or_all(key[0], entries)}") from None
            if key := own.get("missing"):
                raise _at(key, f"missing required key {key[0]!r}{owner}", "missing") from None
            raise

    return Annotated[shape, WrapValidator(check)]


def _at(location: tuple[int | str, ...], problem: str, kind: str = "invalid") -> ValidationError:
    """Return the error of a part of the value that is being checked."""
    error = PydanticCustomError(kind, problem)  # type: ignore[arg-type]
    return ValidationError.from_exception_data("", [{"type": error, "loc": location, "input": None}])


def _component(given: tuple[str, ...]) -> Any:
    """Check the outline of a component and, where classes may be imported, its arguments."""
    path: Any = Annotated[rule(str), AfterValidator(_class_path)]
    written: Any = _worded(dict, dict[_KEY, Any] | None)
    outline = TypeAdapter(_mapping({"class_path": Required[path], "init_args": NotRequired[written]}))

    def check(value: Any, info: ValidationInfo) -> Component:
        if isinstance(value, str):
            raise ValueError(f"expected a mapping, got {show(value)}; write {{class_path: {value}}}")
        entries = outline.validate_python(value, context=info.context)
        component = Component(entries["class_path"], entries.get("init_args") or {})
        return _with_arguments(component, given) if info.context else component

    return Annotated[Any, PlainValidator(check)]


def _class_path(class_path: str, info: ValidationInfo) -> str:
    try:
        (import_class if info.context else require_module)(class_path)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return class_path


def _with_arguments(component: Component, given: tuple[str, ...]) -> Component:
    """Check the arguments that are written, and add the defaults of the others."""
    cls, written = import_class(component.class_path), component.init_args
    parameters, open_ended = arguments(cls)
    for name in given:
        if name not in parameters and not open_ended:
            raise _at(("class_path",), f"{cls.__name__} takes no argument {name!r}, which the program supplies")
        if name in written:
            raise _at(("init_args", name), f"the program supplies this argument of {cls.__name__}; remove it")
    more = tuple(name for name in written if open_ended and name not in parameters)
    checked = _init_args(cls, given, more).validate_python({"init_args": written}, context=True)["init_args"]
    values = {name: value for name, value in _defaults(cls).items() if name not in given} | checked
    return Component(component.class_path, {name: values[name] for name in (*parameters, *more) if name in values})


@cache
def _init_args(cls: Any, given: tuple[str, ...], more: tuple[str, ...]) -> TypeAdapter[Any]:
    """``more`` are arguments for the ``**kwargs`` of the class."""
    entries = _entries(parameter for name, parameter in arguments(cls)[0].items() if name not in given)
    entries |= {name: NotRequired[rule(Any)] for name in more}
    return TypeAdapter(_mapping({"init_args": Required[_mapping(entries, f" of {cls.__name__}")]}))


@cache
def _defaults(cls: Any) -> dict[str, Any]:
    """Return the default arguments that come back unchanged from YAML."""
    found: dict[str, Any] = {}
    for name, parameter in arguments(cls)[0].items():
        if type(parameter.default) in (int, float, bool, str, list, tuple, dict, NoneType):
            try:
                value = convert(plain(parameter.default), parameter.annotation, name)
            except InvalidValue:
                continue
            found |= {name: value} if value == parameter.default else {}
    return found

"""What a class takes when it is called, read from its source without importing it."""

import ast
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union

from pocketdit.config.component import Component, Given
from pocketdit.config.source import Module, find_class, locate

UNKNOWN: Final = object()
TENSOR = "torch.Tensor"

_TYPES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, bool, str, list, tuple, dict)},
    **{f"typing.{name}": getattr(typing, name) for name in ("Literal", "Annotated", "Optional", "Union")},
    **{f"typing.{kind.__name__.title()}": kind for kind in (list, tuple, dict)},
    **{f"{module}.Sequence": Sequence for module in ("typing", "collections.abc")},
    **{f"{module}.Mapping": Mapping for module in ("typing", "collections.abc")},
    "pathlib.Path": Path,
    f"{Component.__module__}.Component": Component,
}


@dataclass(frozen=True)
class Parameter:
    """``default`` is ``UNKNOWN`` where there is none, or it is not a literal."""

    name: str
    annotation: Any
    required: bool
    default: Any = UNKNOWN


@dataclass(frozen=True)
class Signature:
    """``accepts_extra``: takes ``**kwargs``."""

    parameters: dict[str, Parameter]
    accepts_extra: bool


@cache
def signature(class_path: str) -> Signature:
    """Parameters in order. Annotations are real typing objects where YAML can express the type, else ``Any``.

    ``ValueError``, in one line with the nearest name, where there is no such class.
    """
    return _of_class(*find_class(class_path)) or Signature({}, accepts_extra=False)


def _of_class(module: Module, node: ast.ClassDef) -> Signature | None:
    """None where neither the class nor a readable base says what it takes."""
    init = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    if init:
        return _of_function(module, init[-1])  # overloads come before the implementation
    located = [locate(module.dotted(base)) for base in node.bases]
    classes = [(found[0], found[1]) for found in located if found and isinstance(found[1], ast.ClassDef)]
    bases = [base for found in classes if (base := _of_class(*found))]
    decorators = [item.func if isinstance(item, ast.Call) else item for item in node.decorator_list]
    if any(module.dotted(item) == "dataclasses.dataclass" for item in decorators):
        inherited = [parameter for base in reversed(bases) for parameter in base.parameters.values()]
        annotated = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        fields = [field for item in annotated for field in _field(module, item)]
        return Signature({field.name: field for field in [*inherited, *fields]}, accepts_extra=False)
    return bases[0] if bases else None


def _of_function(module: Module, node: ast.FunctionDef) -> Signature:
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    defaults += [*node.args.defaults, *node.args.kw_defaults]
    arguments = list(zip([*positional, *node.args.kwonlyargs], defaults, strict=True))[1:]  # without self
    parameters = {arg.arg: _parameter(module, arg.arg, arg.annotation, default) for arg, default in arguments}
    return Signature(parameters, accepts_extra=node.args.kwarg is not None)


def _field(module: Module, node: ast.AnnAssign) -> list[Parameter]:
    """The parameter of a dataclass field; none for a class variable, ``KW_ONLY`` or ``field(init=False)``."""
    outer = node.annotation.value if isinstance(node.annotation, ast.Subscript) else node.annotation
    name = node.target.id if isinstance(node.target, ast.Name) else ""
    if module.dotted(outer) in ("typing.ClassVar", "dataclasses.KW_ONLY"):
        return []
    if not isinstance(node.value, ast.Call) or module.dotted(node.value.func) != "dataclasses.field":
        return [_parameter(module, name, node.annotation, node.value)]
    options = {keyword.arg: keyword.value for keyword in node.value.keywords}
    if "init" in options and not ast.literal_eval(options["init"]):
        return []
    factory = options.get("default_factory")
    default = ast.Call(factory, [], []) if factory else options.get("default")
    return [_parameter(module, name, node.annotation, default)]


def _parameter(module: Module, name: str, annotation: ast.expr | None, default: ast.expr | None) -> Parameter:
    kind = _resolve(module, annotation) if annotation else Any
    if default is None:
        return Parameter(name, kind, required=True)
    try:
        value = ast.literal_eval(default)
    except ValueError:
        return Parameter(name, kind, required=False)
    return Parameter(name, _union([kind, None]) if value is None else kind, required=False, default=value)


def _resolve(module: Module, node: ast.expr, seen: frozenset[str] = frozenset()) -> Any:
    """The typing object of an annotation; ``Any`` for every type that YAML cannot express."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            return _resolve(module, ast.parse(text, mode="eval").body, seen)
        case ast.BinOp(op=ast.BitOr()):
            parts = _expressible(module, [node.left, node.right])
            return _union([_resolve(module, part, seen) for part in parts])
        case ast.Subscript():
            return _generic(module, node, seen)
        case ast.Name() | ast.Attribute():
            name = module.dotted(node)
            if name in _TYPES:
                return _TYPES[name]
            # Aliases of other packages are left alone: reading all of torch for an annotation takes long.
            same_package = name.partition(".")[0] == module.name.partition(".")[0]
            found = locate(name) if same_package and name != TENSOR and name not in seen else None
            if found and not isinstance(found[1], ast.ClassDef):
                return _resolve(found[0], found[1], seen | {name})
    return Any


def _generic(module: Module, node: ast.Subscript, seen: frozenset[str]) -> Any:
    base = _TYPES.get(module.dotted(node.value))
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if base is Literal:
        return Literal[tuple(ast.literal_eval(part) for part in parts)]
    if base is Annotated:
        metadata = [value for part in parts[1:] for value in _metadata(module, part)]
        kind = _resolve(module, parts[0], seen)
        return Annotated[(kind, *metadata)] if metadata else kind
    if base is Union or base is typing.Optional:
        members = [_resolve(module, part, seen) for part in _expressible(module, parts)]
        return _union(members if base is Union else [*members, None])
    if base is tuple:
        items = tuple(... if _is_ellipsis(part) else _resolve(module, part, seen) for part in parts)
        return types.GenericAlias(tuple, items)
    if base in (list, Sequence):
        return base[_resolve(module, parts[0], seen)]
    if base in (dict, Mapping):
        return base[str, _resolve(module, parts[1], seen)]
    return Any


def _expressible(module: Module, members: Sequence[ast.expr]) -> list[ast.expr]:
    """``float | Tensor`` is a float to YAML."""
    return [member for member in members if module.dotted(member) != TENSOR] or list(members)


def _metadata(module: Module, node: ast.expr) -> list[Any]:
    if isinstance(node, ast.Call) and module.dotted(node.func) == f"{Given.__module__}.Given":
        return [Given(*map(ast.literal_eval, node.args))]
    return [node.value] if isinstance(node, ast.Constant) else []


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _union(members: Sequence[Any]) -> Any:
    return Any if Any in members else Union[tuple(members)]  # noqa: UP007

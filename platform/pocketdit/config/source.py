"""Where a class is defined, found by reading source: no module is imported.

So a configuration that names classes of torch is checked without loading torch.
"""

import ast
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from pocketdit.config.errors import did_you_mean, nearest

Definition = ast.ClassDef | ast.expr


@dataclass(frozen=True)
class Module:
    """A parsed module: its classes and assignments, where its imported names come from, its star imports."""

    name: str
    definitions: dict[str, Definition]
    imports: dict[str, str]
    stars: tuple[str, ...]

    def dotted(self, node: ast.expr) -> str:
        """Full name that a ``Name`` or ``Attribute`` expression of this module stands for; else empty."""
        if isinstance(node, ast.Attribute):
            return f"{self.dotted(node.value)}.{node.attr}"
        if not isinstance(node, ast.Name):
            return ""
        return self.imports.get(node.id, f"{self.name}.{node.id}" if node.id in self.definitions else node.id)


def find_class(class_path: str) -> tuple[Module, ast.ClassDef]:
    """``ValueError``, in one line with the nearest name, where there is no such class."""
    parts = class_path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{class_path!r} is not of the form 'package.module.Class'")
    module_name, name = ".".join(parts[:-1]), parts[-1]
    for depth in range(1, len(parts)):
        if find_module(".".join(parts[:depth])) is None:
            raise ValueError(_no_module(parts[: depth - 1], parts[depth - 1], parts[depth:]))
    found = locate(class_path)
    if found is None or not isinstance(found[1], ast.ClassDef):
        near = did_you_mean(name, _class_names(module_name) - {name})
        raise ValueError(f"{module_name} has no class {name!r}{near}")
    return found[0], found[1]


@cache
def find_module(name: str) -> ModuleSpec | None:
    """Asks the import system for the top-level name only, which runs no code of the package."""
    top, *rest = name.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # __main__ has no spec
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec


@cache
def parse(name: str) -> Module:
    """A module without Python source (compiled, namespace package) is empty. ``ValueError`` on bad syntax."""
    spec = find_module(name)
    module = Module(name, {}, {}, ())
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return module
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except SyntaxError as error:
        raise ValueError(f"{spec.origin}:{error.lineno}: {error.msg}") from None
    package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
    stars = []
    for node in _statements(tree.body):
        match node:
            case ast.ClassDef():
                module.definitions[node.name] = node
            case ast.Assign(targets=[ast.Name(id=target)], value=value):
                module.definitions[target] = value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                module.definitions[target] = value
            case ast.Import():
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    module.imports.setdefault(alias.asname or top, alias.name if alias.asname else top)
            case ast.ImportFrom():
                origin = _origin(node, package)
                stars += [origin for alias in node.names if alias.name == "*"]
                for alias in node.names:
                    module.imports.setdefault(alias.asname or alias.name, f"{origin}.{alias.name}")
    return Module(name, module.definitions, module.imports, tuple(stars))


def locate(dotted: str, seen: frozenset[str] = frozenset()) -> tuple[Module, Definition] | None:
    """The class or assignment behind a full name, through re-exports and aliases."""
    module_name, _, name = dotted.rpartition(".")
    if not module_name or dotted in seen or find_module(module_name) is None:
        return None
    module, seen = parse(module_name), seen | {dotted}
    if name in module.imports:
        return locate(module.imports[name], seen)
    definition = module.definitions.get(name)
    if isinstance(definition, ast.Name | ast.Attribute):
        return locate(module.dotted(definition), seen)
    if definition is not None:
        return module, definition
    return next(filter(None, (locate(f"{star}.{name}", seen) for star in module.stars)), None)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module's top level, those under ``if`` and ``try`` included."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements(node.body)
            yield from _statements(node.orelse)
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from _statements(handler.body)


def _origin(node: ast.ImportFrom, package: str) -> str:
    """The absolute name of the module that a ``from`` import reads."""
    parents = package.split(".")
    base = parents[: len(parents) - node.level + 1] if node.level else []
    return ".".join([*base, *([node.module] if node.module else [])])


def _class_names(module_name: str) -> set[str]:
    module = parse(module_name)
    names = {name for name, node in module.definitions.items() if isinstance(node, ast.ClassDef)}
    names |= {name for name in module.imports if name[0].isupper()}
    return names.union(*(_class_names(star) for star in module.stars))


def _no_module(parents: list[str], missing: str, rest: list[str]) -> str:
    spec = find_module(".".join(parents)) if parents else None
    folders = spec.submodule_search_locations if spec else None
    if parents and folders is None:
        return f"{'.'.join(parents)} is a module, not a package: it has no {missing!r}"
    near = nearest(missing, [module.name for module in pkgutil.iter_modules(folders if parents else None)])
    ending = f"; did you mean {'.'.join([*parents, near, *rest])!r}?" if near else ""
    return f"no module {'.'.join([*parents, missing])!r}{ending}"

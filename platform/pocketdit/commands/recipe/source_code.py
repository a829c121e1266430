"""Digests of the source code that a task depends on.

The code of a task consists of the modules that define its classes, and of all modules of this project and of the
working directory that these import, directly or indirectly. Installed packages are not included. Comments, docstrings
and formatting do not affect a digest.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PROJECT = ("pocketdit", "datamodules", "evaluation")


def source_digests(entries: Iterable[str]) -> dict[str, str]:
    """Return the digest of every source file that modules or classes depend on.

    Args:
        entries: Import paths of modules or classes.

    Returns:
        A mapping from module names to digests.
    """
    pending = [module for entry in entries if (module := enclosing_module(entry)) is not None]
    digests: dict[str, str] = {}
    while pending:
        module = pending.pop()
        path = module_file(module)
        if path is None or module in digests:
            continue
        digest, names = read_source(path)
        digests[module] = digest
        pending += [imported for name in names if (imported := enclosing_module(name)) is not None]
    return digests


def enclosing_module(name: str) -> str | None:
    """Return the module of an import path: its longest prefix for which there is a source file, or None."""
    while name:
        if module_file(name) is not None:
            return name
        name = name.rpartition(".")[0]
    return None


@cache
def module_file(module: str) -> Path | None:
    """Return the source file of a module without importing it, or None if the module is installed or unknown."""
    top, *rest = module.split(".")
    root = package_root(top)
    if root is None:
        return None
    path = root.joinpath(top, *rest)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def package_root(top: str) -> Path | None:
    """Return the folder that contains a package, or None if it is neither in this project nor the working directory."""
    if top in PROJECT:
        spec = find_spec(top)
        locations = spec.submodule_search_locations if spec else None
        return Path(next(iter(locations))).parent if locations else None
    here = Path.cwd()
    own = (here / top).is_dir() or (here / f"{top}.py").is_file()
    return here if own and top not in sys.stdlib_module_names else None


@cache
def read_source(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a source file and the names that it imports."""
    tree = ast.parse(path.read_bytes())
    names = tuple(imported_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and has_docstring(node):
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), names


def has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether the body of a node starts with a docstring."""
    return ast.get_docstring(node, clean=False) is not None


def imported_names(node: ast.AST) -> Iterator[str]:
    """Yield the full names of absolute imports, except those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.ImportFrom(module=str(module), level=0):
                yield from (f"{module}.{alias.name}" for alias in child.names)
            case ast.Import():
                yield from (alias.name for alias in child.names)
            case _:
                yield from imported_names(child)

"""Joins the modules that a pipeline needs into one file, which diffusers runs where PocketDiT is not installed.

diffusers only downloads a single file of code for a pipeline, so this file must not import other files. The text of
each module is kept as it is, so that users can read the code that ``trust_remote_code`` allows to run.
"""

import ast
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

FILE = "pipeline.py"
PACKAGE = "pocketdit"
ROOTS = ("pocketdit.pipelines.text_to_image", "pocketdit.pipelines.image_to_image")
# The modules that define the components, according to model_index.json.
COMPONENT_MODULES = ("pocketdit.pipelines.transformer", "pocketdit.pipelines.embedded")

HEADER = '''\
"""The pipelines of PocketDiT in one file, for diffusers' ``trust_remote_code``.

`lightning publish` generated this file from the modules of PocketDiT {version} that the headings name. If PocketDiT is
installed, its `PocketDiTPipeline` can load the same folder without running this file.
"""

# Copyright of the PocketDiT authors. Licensed under the Apache License, Version 2.0.

import importlib.util
import sys

{imports}
'''
FOOTER = f'''

# {"-" * 118}
# Register this file under the module names that model_index.json specifies for the components.

for _name in {COMPONENT_MODULES!r}:
    if importlib.util.find_spec("{PACKAGE}") is None:
        sys.modules.setdefault(_name, sys.modules[__name__])
    else:
        importlib.import_module(_name)
'''


def pipeline_code(version: str) -> str:
    """Return the code of the pipelines as one file.

    Args:
        version: Version of PocketDiT, which the file states.

    Raises:
        ValueError: Two modules define the same name differently, or a module uses a form of import that cannot be
            joined.
    """
    modules = _in_order()
    imports: dict[str, set[str]] = {}
    bodies: list[str] = []
    defined: dict[str, str] = {}
    for name, path in modules.items():
        text = path.read_text(encoding="utf-8")
        body = _without_imports(text, imports)
        for definition, source in _definitions(text).items():
            if defined.setdefault(definition, source) != source:
                raise ValueError(f"{name} defines {definition}, which another module defines differently")
        bodies.append(f"\n# {'-' * 118}\n# {name}\n\n{body}\n")
    lines = [_import_line(module, names) for module, names in sorted(imports.items())]
    return HEADER.format(version=version, imports="\n".join(lines)) + "\n".join(bodies) + FOOTER


def _in_order() -> dict[str, Path]:
    """Return the modules of this project that the pipelines import, each after the modules that it imports."""
    paths: dict[str, Path] = {}
    graph: dict[str, list[str]] = {}
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name in graph:
            continue
        spec = find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        paths[name] = Path(spec.origin)
        imported = {
            node.module
            for node in ast.walk(ast.parse(paths[name].read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{PACKAGE}.")
        }
        graph[name] = sorted(imported)
        waiting += graph[name]
    return {name: paths[name] for name in TopologicalSorter(graph).static_order()}


def _without_imports(text: str, imports: dict[str, set[str]]) -> str:
    """Return a module's code without its docstring and its top-level imports.

    Args:
        text: The code.
        imports: Receives the names that the code imports from other libraries, by module. A module that is imported as
            a whole has the name "".
    """
    tree = ast.parse(text)
    lines = text.splitlines()
    for node in tree.body:
        match node:
            case ast.Expr(value=ast.Constant()) if node is tree.body[0]:
                pass
            case ast.Import():
                for alias in node.names:
                    imports.setdefault(ast.unparse(alias), set()).add("")
            case ast.ImportFrom(module=str(module)) if module.startswith(f"{PACKAGE}."):
                if renamed := [alias.name for alias in node.names if alias.asname]:
                    raise ValueError(f"{module}: {renamed[0]} must not be renamed by an import")
            case ast.ImportFrom(module=str(module)):
                imports.setdefault(module, set()).update(map(ast.unparse, node.names))
            case _:
                continue
        assert node.end_lineno is not None
        lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines).strip("\n")


def _import_line(module: str, names: set[str]) -> str:
    """Return the statements that import a module as a whole, names from it, or both."""
    parts = [f"import {module}"] if "" in names else []
    if named := sorted(names - {""}):
        parts.append(f"from {module} import {', '.join(named)}")
    return "\n".join(parts)


def _definitions(text: str) -> dict[str, str]:
    """Return the top-level names that a module defines, each with its code."""
    defined: dict[str, str] = {}
    for node in ast.parse(text).body:
        names: list[str] = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        defined |= {name: ast.unparse(node) for name in names}
    return defined

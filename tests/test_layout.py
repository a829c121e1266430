"""Tests that the source tree follows the rules in CONTRIBUTING.md, and that documents refer to files that exist.

The rules about imports also apply to imports inside functions.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "platform" / "pocketdit"
SIBLINGS = ("datamodules", "evaluation", "sweeps")
MAX_LINES = 330

# A part of the package imports only from the same layer and earlier layers. Unlisted parts form the first layer.
LAYERS = (
    "training",
    "artifacts",
    "teachers",
    "stages",
    "running",
    "mobile export latency hub",
    "api",
    "commands",
    "__main__",
)

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiments/LOG.md", "docs/decisions.md"]


@cache
def modules() -> dict[str, Path]:
    """Return a mapping from module names to the source files of the package and its siblings."""
    files = {}
    for root in (PACKAGE.parent, ROOT):
        packages = ("pocketdit",) if root == PACKAGE.parent else SIBLINGS
        for path in (file for package in packages for file in (root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imported_names(path: Path) -> Iterator[str]:
    """Yield the full names that a file imports, including imports in functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def imports() -> dict[str, set[str]]:
    """Return a mapping from each module to the modules of this project that it imports."""
    known = modules()
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for target in imported_names(path):
            module = target if target in known else target.rpartition(".")[0]
            if module in known and module != name:
                graph[name].add(module)
    return graph


def part(module: str) -> str:
    """Return the part of ``pocketdit`` that contains a module: a subpackage or a top-level module."""
    return [*module.split("."), ""][1]


def layer(name: str) -> int:
    return next((number for number, parts in enumerate(LAYERS, 1) if name in parts.split()), 0)


def test_platform_is_not_a_package() -> None:
    """An ``__init__.py`` in ``platform/`` would hide the standard library's ``platform`` module."""
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_graph_includes_lazy_imports() -> None:
    assert "pocketdit.running.fit" in imports()["pocketdit.api.training"]


def test_only_commands_and_the_api_import_the_siblings() -> None:
    for name, targets in imports().items():
        if name.startswith("pocketdit.") and part(name) not in ("commands", "api"):
            assert not {target.split(".")[0] for target in targets} & set(SIBLINGS), name


def test_siblings_do_not_import_the_command_line() -> None:
    for name, targets in imports().items():
        if not name.startswith("pocketdit"):
            assert not any(target.startswith("pocketdit.commands") for target in targets), name


def test_modules_have_no_import_cycles() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_parts_have_no_import_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for name, targets in imports().items():
        if name.startswith("pocketdit."):
            others = {part(target) for target in targets if target.startswith("pocketdit.")} - {part(name)}
            graph.setdefault(part(name), set()).update(others)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_parts_import_only_from_earlier_layers() -> None:
    violations = [
        f"{name} imports {target}"
        for name, targets in imports().items()
        for target in targets
        if name.startswith("pocketdit.") and target.startswith("pocketdit.") and layer(part(target)) > layer(part(name))
    ]
    assert violations == []


def test_files_are_short() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def expand_braces(path: str) -> list[str]:
    """Expand ``a{b,c}d`` to ``abd`` and ``acd``, as a shell does."""
    match = re.fullmatch(r"(.*?)\{([^{}]*)\}(.*)", path)
    if match is None:
        return [path]
    head, options, tail = match.groups()
    return [expanded for option in options.split(",") for expanded in expand_braces(head + option + tail)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_refer_to_existing_files(name: str) -> None:
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / name).parent / target).exists(), target
    folders = r"(?:platform|datamodules|evaluation|sweeps|experiments|benchmarks|tests|docs)"
    for pattern in re.findall(rf"`({folders}/[\w./{{}},*-]*)`", text):
        for path in expand_braces(pattern):
            assert list(ROOT.glob(path)), path


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_refer_to_existing_modules_and_classes(name: str) -> None:
    text = (ROOT / name).read_text()
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert find_spec(module) is not None, module
    for script in re.findall(r"python (\w+/\w+\.py)", text):
        assert (ROOT / script).exists(), script
    for module, cls in re.findall(r"`((?:pocketdit|datamodules|evaluation|sweeps)[.\w]*)\.([A-Z]\w+)`", text):
        assert hasattr(import_module(module), cls), f"{module}.{cls}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_have_no_placeholders(name: str) -> None:
    assert not re.search(r"@[A-Z]+@", (ROOT / name).read_text())

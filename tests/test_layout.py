"""Rules of the source tree: imports point one way, and documents name what exists.

CONTRIBUTING.md states the same rules in prose.
"""

import ast
import re
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "platform" / "pocketdit"
SIBLINGS = {"datamodules", "evaluation", "sweeps", "benchmarks", "tests"}
SOURCES = sorted(
    path for folder in ("platform", "datamodules", "evaluation", "sweeps") for path in (ROOT / folder).rglob("*.py")
)
MAX_LINES = 330

# Every part of the package imports only from its own layer and earlier ones. Whatever is not listed is in the first.
LAYERS = ("training", "artifacts", "teachers", "stages", "running", "mobile export latency", "commands", "__main__")

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiments/LOG.md"]


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports when it is itself imported. Imports inside functions do not count."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def imports_between_parts() -> dict[str, set[str]]:
    """Return the parts of ``pocketdit`` that each part imports. A part is a folder, or a file at the top."""
    graph: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imported(path):
            pieces = name.split(".")
            if pieces[0] == "pocketdit" and len(pieces) > 1 and pieces[1] != part:
                graph.setdefault(part, set()).add(pieces[1])
    return graph


def layer(part: str) -> int:
    return next((number for number, parts in enumerate(LAYERS, 1) if part in parts.split()), 0)


def test_platform_is_not_a_package() -> None:
    """An ``__init__.py`` in ``platform/`` would hide the standard library's module of this name."""
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_pocketdit_does_not_import_its_siblings() -> None:
    for path in PACKAGE.rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & SIBLINGS, path


def test_parts_do_not_import_each_other_in_a_circle() -> None:
    list(TopologicalSorter(imports_between_parts()).static_order())


def test_parts_import_only_from_earlier_layers() -> None:
    graph = imports_between_parts()
    assert [(part, other) for part in graph for other in graph[part] if layer(other) > layer(part)] == []


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def expand_braces(path: str) -> list[str]:
    """Expand ``a{b,c}d`` to ``abd`` and ``acd``, as a shell does."""
    match = re.fullmatch(r"(.*?)\{([^{}]*)\}(.*)", path)
    if match is None:
        return [path]
    head, options, tail = match.groups()
    return [one for option in options.split(",") for one in expand_braces(head + option + tail)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_existing_files(name: str) -> None:
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / name).parent / target).exists(), target
    folders = r"(?:platform|datamodules|evaluation|sweeps|experiments|benchmarks|tests|docs)"
    for pattern in re.findall(rf"`({folders}/[\w./{{}},*-]*)`", text):
        for path in expand_braces(pattern):
            assert list(ROOT.glob(path)), path


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_existing_modules_and_classes(name: str) -> None:
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

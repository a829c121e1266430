"""The house rules of the tree: imports go one way, platform/ is no package, documents tell the truth."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "platform" / "pocketdit"
FOLDERS = ("platform", "datamodules", "evaluation", "sweeps")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Modules that a file imports when it is imported itself; imports inside functions do not count."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_platform_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_package_imports_none_of_its_siblings() -> None:
    for path in PACKAGE.rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"datamodules", "evaluation", "sweeps", "tests", "benchmarks"}, path


def test_packages_import_one_way() -> None:
    """No circle between the parts of ``pocketdit``: a folder or a file at its top counts as one part."""
    graph: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imported(path):
            pieces = name.split(".")
            if pieces[0] == "pocketdit" and len(pieces) > 1 and pieces[1] != part:
                graph.setdefault(part, set()).add(pieces[1])
    list(TopologicalSorter(graph).static_order())


def test_files_are_short_enough_to_read() -> None:
    assert {str(p): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 330} == {}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiments/LOG.md"])
def test_documents_are_finished_and_name_what_exists(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"@[A-Z]+@", text)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / name).parent / target).exists(), target
    for path in re.findall(r"`((?:platform|datamodules|evaluation|experiments|benchmarks|tests|docs)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path

"""Tests that the commands in the README, the documentation, YAML headers and ``--help`` exist and can be parsed."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pocketdit.commands.main import EPILOG, is_lightning_command, main, parse
from pocketdit.commands.recipe.command import is_recipe
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.config.experiment import kind_of
from pocketdit.config.load import load
from sweeps.settings import Sweep
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
YAMLS = [path for name in ("experiments", "sweeps") for path in sorted((ROOT / name).rglob("*.yaml"))]
# Matches names in capitals, which readers replace with their own.
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]+\b")


@dataclass(frozen=True)
class Line:
    """A shell line and the file that contains it."""

    text: str
    path: Path

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def join_continued(text: str) -> str:
    return re.sub(r" *\\\n\s*#?\s*", " ", text)


def expand_arrays(text: str) -> str:
    """Replace ``"${NAME[@]}"`` with the items of the array, which must be defined on one line of the same block."""
    for name, items in re.findall(r"^(\w+)=\((.*)\)$", text, re.M):
        text = text.replace(f'"${{{name}[@]}}"', items)
    return text


def shell_lines() -> list[Line]:
    """Return the shell lines of the pages, of the header comments of YAML files, and of the ``--help`` text."""
    lines = []
    for path in PAGES:
        for language, block in re.findall(r"^```(.*)\n((?:.*\n)*?)```$", path.read_text(), re.M):
            if language in ("", "sh", "bash"):
                lines += [Line(line, path) for line in expand_arrays(join_continued(block)).splitlines()]
    for path in YAMLS:
        header = join_continued(re.match(r"(?:#.*\n)*", path.read_text())[0])  # type: ignore[index]
        lines += [Line(line, path) for line in re.findall(r"^#   (.*)$", header, re.M)]
    lines += [Line(line, Path("--help")) for line in re.findall(r"To get started: (.*?) && (.*)", EPILOG)[0]]
    known = ("lightning", "pocketdit", "make", "python", "pip", "srun", "torchrun", "cd", "source", "pytest")
    return [line for line in lines if line.text.split(" ")[0] in known]


def ours(line: Line) -> list[str] | None:
    """Return the arguments of a PocketDiT command (which may follow a launcher), or None for other commands."""
    words = line.words
    for start in (["lightning"], ["pocketdit"], ["-m", "pocketdit"]):
        for at in range(len(words)):
            if words[at : at + len(start)] == start:
                return words[at + len(start) :]
    return None


LINES = shell_lines()
COMMANDS = [(line, arguments) for line in LINES if (arguments := ours(line)) is not None and line.words[0] != "pip"]
IDS = [f"{line.path.name}: {line.text[:60]}" for line, _ in COMMANDS]


def exit_status(call: Callable[[], object]) -> object:
    """Return the exit status of a call, even if the call raises ``SystemExit`` (as with ``--help``)."""
    try:
        result = call()
    except SystemExit as exit_:
        return exit_.code
    return result if isinstance(result, int) else 0


def test_lines_are_collected() -> None:
    assert len(COMMANDS) >= 60
    assert {"README.md", "sweeps.md", "coreml.yaml", "--help"} <= {line.path.name for line, _ in COMMANDS}


@pytest.mark.parametrize(("line", "arguments"), COMMANDS, ids=IDS)
def test_a_command_parses(line: Line, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if is_lightning_command(arguments):
        return
    assert exit_status(lambda: parse(arguments)) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("line", "arguments"), COMMANDS, ids=IDS)
def test_files_and_overrides_of_a_command_exist(
    line: Line, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load the YAML file that a command names, with the command's overrides, but without importing any classes."""
    if any(PLACEHOLDER.search(argument) for argument in arguments) or "winner" in line.text:
        return
    files = [word.rpartition("=")[2] for word in arguments if word.endswith(".yaml")]
    for file in files:
        assert (ROOT / file).is_file(), f"{file} does not exist"
    if arguments[0] not in ("run", "sweep") or not files:
        return
    monkeypatch.chdir(ROOT)
    args = parse(arguments)
    schema = Sweep if arguments[0] == "sweep" else Recipe if is_recipe(args.file) else kind_of(args.file)
    load(Path(files[0]), args.overrides, schema, classes=False)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {word for line in LINES if line.words[0] == "make" for word in line.words[1:]}
    assert {"run", "test"} <= named <= targets


def test_programs_exist() -> None:
    for line in LINES:
        words = line.words
        if words[0] == "python" and words[1] == "-m" and words[2] != "pocketdit":
            assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file(), line
        elif words[0] == "python" and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), line


@pytest.mark.parametrize("path", [page for page in PAGES if page.parent == ROOT], ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    """Sphinx checks only the links in ``docs``, so this test checks the links in the pages of the root folder."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"], ["init", "demo"], ["doctor"]])
def test_cheap_commands_run(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_status(lambda: main(arguments)) == 0

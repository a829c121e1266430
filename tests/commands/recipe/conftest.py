"""Fixture that provides a small recipe and a launcher that writes results without computing them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from pocketdit.commands.recipe.execution import Choice, Execution
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.config.load import load

RECIPE = """
recipe: tiny
runs: {folder}/runs
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
tasks:
  scenes: {{kind: build, source: scenes, out: {folder}/scenes}}
  pretrain: {{kind: train, file: experiments/elastic_pretrain.yaml, data: scenes}}
  teacher: {{kind: train, file: experiments/teacher.yaml, data: scenes}}
  distill:
    kind: train
    file: experiments/knowledge_distill.yaml
    data: scenes
    parents: {{start: pretrain, teacher: teacher}}
  decoder: {{kind: train, file: experiments/tiny_decoder.yaml, data: scenes}}
  score:
    kind: evaluate
    file: experiments/eval/held_out.yaml
    run: distill
    overrides: ["out={folder}/evaluations"]
  bundle:
    kind: export
    file: experiments/export/litert.yaml
    run: distill
    overrides: ["out={folder}/exports"]
"""


class WritingLauncher:
    """Writes the files that a command would write. Their content depends on the command's settings and inputs.

    Attributes:
        commands: The command that was started for each task.
        failing: Tasks whose commands fail.
        salt: String that changes the content of all files.
    """

    jobs = 1

    def __init__(self, recipe: Recipe) -> None:
        self.runs = recipe.runs
        self.commands: dict[str, tuple[str, ...]] = {}
        self.failing: set[str] = set()
        self.salt = ""
        self.stopped = 0

    def start(self, task: str, words: Sequence[str]) -> None:
        assert task not in self.commands, "a task must start only once"
        self.commands[task] = tuple(words)
        if task not in self.failing:
            self._write(list(words))

    def status(self, task: str) -> int | None:
        return int(task in self.failing)

    def log(self, task: str) -> Path | None:
        return None

    def stop(self) -> None:
        self.stopped += 1

    def _write(self, words: list[str]) -> None:
        content = hashlib.sha256("".join([*map(meaning, words[1:]), self.salt]).encode()).hexdigest()
        match words:
            case ["data", "build", _, out, *_]:
                files = [Path(out, "dataset.json")]
            case ["run", file, *_]:
                name = words[words.index("--name") + 1] if "--name" in words else words[words.index("--resume") + 1]
                folder = self.runs / Path(file).stem / Path(name).name
                files = [folder / "config.yaml", folder / "weights.safetensors", folder / "finished"]
            case _:
                out = next(word for word in reversed(words) if word.startswith("out=")).removeprefix("out=")
                files = [Path(out, "a/b/results.json" if words[0] == "evaluate" else "a/manifest.json")]
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


def meaning(word: str) -> str:
    """Return the text that an argument of a command contributes to the command's result."""
    key, _, value = word.partition("=")
    if key in ("runs", "out", "training.log_every") or key.startswith(("-", "tracking", "mlflow")) or "tiny-" in key:
        return ""
    if key == "run" or key.startswith(("parents.", "data.init_args.path")):
        files = [Path(value, name) for name in ("weights.safetensors", "dataset.json")]
        return "".join(file.read_text() for file in files if file.is_file())
    return word


class Bench:
    """Runs a recipe with a ``WritingLauncher``, and collects the reports."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.salt = ""
        self.failing: set[str] = set()

    def load(self, *overrides: str) -> Recipe:
        return load(self.file, overrides, Recipe).config

    def run(self, *overrides: str, choice: Choice | None = None) -> dict[str, str]:
        """Run the recipe, and return the last report about each task."""
        recipe = self.load(*overrides)
        recipe.folder.mkdir(parents=True, exist_ok=True)
        self.launcher = WritingLauncher(recipe)
        self.launcher.salt, self.launcher.failing = self.salt, self.failing
        self.reports: dict[str, str] = {}
        Execution(recipe, self.launcher, self.reports.__setitem__, choice or Choice()).run()
        return self.reports


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a bench for a recipe in a temporary folder that does not log to MLflow."""
    monkeypatch.setattr("pocketdit.commands.recipe.tracking.RecipeRun.send", lambda self: None)
    monkeypatch.setattr("pocketdit.commands.recipe.execution.POLL_SECONDS", 0.0)
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(folder=tmp_path))
    return Bench(file)

"""Prompt sets by name in a YAML: the published benchmarks' from their files, and the drawn scenes' own."""

import csv
import json
from dataclasses import replace
from pathlib import Path

from evaluation.contract import Prompt, PromptSet
from pocketdit.errors import ConfigError


def limited(prompts: PromptSet, limit: int | None, images_each: int | None) -> PromptSet:
    """The first ``limit`` prompts; fewer or more pictures of each than the protocol asks for."""
    for name, value in (("limit", limit), ("images_each", images_each)):
        if value is not None and value < 1:
            raise ConfigError(f"{prompts.name}: {name} must be at least 1, not {value}")
    return replace(
        prompts,
        prompts=prompts.prompts[:limit],
        images_each=prompts.images_each if images_each is None else images_each,
    )


class GenEvalPrompts:
    """GenEval's 553 prompts, 4 pictures each. ``folder``: of the benchmarks' files."""

    def __init__(self, folder: Path, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.limit, self.images_each = Path(folder), limit, images_each

    def load(self) -> PromptSet:
        from evaluation.geneval.prompts import load_prompts

        return limited(load_prompts(self.folder / "geneval"), self.limit, self.images_each)


class DPGPrompts:
    """DPG-Bench's 1065 prompts with their questions, 4 pictures each."""

    def __init__(self, folder: Path, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.limit, self.images_each = Path(folder), limit, images_each

    def load(self) -> PromptSet:
        from evaluation.dpg.prompts import load_prompts

        return limited(load_prompts(self.folder / "dpg_bench"), self.limit, self.images_each)


class CompBenchPrompts:
    """300 validation prompts of a category of T2I-CompBench, 10 pictures each."""

    def __init__(self, folder: Path, category: str, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.category = Path(folder), category
        self.limit, self.images_each = limit, images_each

    def load(self) -> PromptSet:
        from evaluation.compbench.prompts import load_prompts

        return limited(load_prompts(self.folder / "t2i_compbench", self.category), self.limit, self.images_each)


class SceneGenEval:
    """Held-out captions of drawn scenes in GenEval's six tags."""

    def __init__(self, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.count, self.seed, self.images_each = count, seed, images_each

    def load(self) -> PromptSet:
        from evaluation.scenes.prompts import scene_geneval

        return limited(scene_geneval(self.count, self.seed), None, self.images_each)


class SceneDPG:
    """Long captions of held-out drawn scenes, with questions from their annotations."""

    def __init__(self, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.count, self.seed, self.images_each = count, seed, images_each

    def load(self) -> PromptSet:
        from evaluation.scenes.prompts import scene_dpg

        return limited(scene_dpg(self.count, self.seed), None, self.images_each)


class SceneCompBench:
    """Drawn scenes' prompts of a category of T2I-CompBench."""

    def __init__(self, category: str, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.category, self.count, self.seed, self.images_each = category, count, seed, images_each

    def load(self) -> PromptSet:
        from evaluation.scenes.prompts import scene_compbench

        return limited(scene_compbench(self.category, self.count, self.seed), None, self.images_each)


class PromptFile:
    """Prompts of the user: a .txt with one a line, a .jsonl with "id", "prompt" and what else is known, or a .csv or
    .tsv with the columns "id" and "prompt" (PartiPrompts: "Prompt"). Without an id, the line's number from 0.
    """

    def __init__(self, path: Path, images_each: int = 1, limit: int | None = None) -> None:
        self.path, self.images_each, self.limit = Path(path), images_each, limit

    def load(self) -> PromptSet:
        """``ConfigError`` naming the line that is wrong."""
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path}: is not UTF-8 text") from error
        prompts = tuple(self._prompt(i, row) for i, row in enumerate(self._rows(text)))
        if not prompts:
            raise ConfigError(f"{self.path}: no prompts")
        return limited(PromptSet(self.path.stem, prompts, self.images_each), self.limit, None)

    def _rows(self, text: str) -> list[dict[str, object]]:
        lines = [line for line in text.splitlines() if line.strip()]
        match self.path.suffix.lower():
            case ".jsonl":
                try:
                    rows = [json.loads(line) for line in lines]
                except ValueError as error:
                    raise ConfigError(f"{self.path}: a line is no JSON ({error})") from error
                if not all(isinstance(row, dict) for row in rows):
                    raise ConfigError(f"{self.path}: a line is no JSON object")
                return rows
            case ".csv" | ".tsv":
                delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
                return list(csv.DictReader(lines, delimiter=delimiter))
            case ".txt":
                return [{"prompt": line.strip()} for line in lines]
            case other:
                raise ConfigError(
                    f"{self.path}: prompts come as .txt, .jsonl, .csv or .tsv, not {other or 'without a suffix'}"
                )

    def _prompt(self, number: int, row: dict[str, object]) -> Prompt:
        text = row.get("prompt") or row.get("Prompt")
        if not isinstance(text, str):
            raise ConfigError(f"{self.path}: prompt {number + 1} has no field 'prompt'")
        if None in row:
            raise ConfigError(f"{self.path}: prompt {number + 1} has more fields than the header; quote commas")
        rest = {key: value for key, value in row.items() if key not in ("id", "prompt", "Prompt")}
        return Prompt(str(row.get("id", f"{number:05d}")), text, rest)

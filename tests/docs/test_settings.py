"""Tests that docs/configuration.md lists the keys of every section and of every class that the experiments use."""

import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pytest
import yaml  # type: ignore[import-untyped]

from datamodules.shards.module import ShardDataModule
from docs.extensions.settings import default, describe, documented
from evaluation.preference.settings import Preference
from evaluation.settings import Evaluation
from pocketdit.bounds import Between
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.config.component import Component, arguments
from pocketdit.config.experiment import AutoencoderExperiment, DecoderExperiment, Experiment, Training
from pocketdit.export.coreai.settings import CoreAIExport
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.litert.settings import LiteRTExport
from pocketdit.latency.settings import Latency, Recommend
from pocketdit.teachers.contract import Teacher
from sweeps.settings import Sweep
from tests.conftest import ROOT

LISTED = re.findall(r"^```\{settings\} (\S+)$", (ROOT / "docs" / "configuration.md").read_text(), re.M)
FILES = (Experiment, Recipe, Sweep, CoreMLExport, CoreAIExport, LiteRTExport, Evaluation, Preference)
COMMANDS = (Latency, Recommend)
FOLDERS = tuple(ROOT / "experiments" / name for name in ("", "ablations", "paper", "emoji"))
EXPERIMENTS = [path for folder in FOLDERS for path in sorted(folder.glob("*.yaml")) if path.name != "recipe.yaml"]
# Of these classes, the page only describes the section that Experiment does not have.
OTHERS = (DecoderExperiment, AutoencoderExperiment)
ROLES = ("data", "autoencoder", "text_encoders", "stage", "optimizer", "teacher")


def sections(annotation: Any) -> Iterator[type]:
    """Yield the dataclasses that a type contains at any depth, including the type itself."""
    if is_dataclass(annotation) and annotation is not Component:
        assert isinstance(annotation, type)
        yield annotation
        for hint in get_type_hints(annotation).values():
            yield from sections(hint)
    for part in get_args(annotation):
        yield from sections(part)


def class_paths(values: Any, role: str = "") -> Iterator[str]:
    """Yield the class paths that the YAML values of an experiment assign to the keys in ``ROLES``."""
    if isinstance(values, list):
        for item in values:
            yield from class_paths(item, role)
    elif isinstance(values, dict):
        if role in ROLES and "class_path" in values:
            yield values["class_path"]
        for key, value in values.items():
            yield from class_paths(value, key)


@pytest.mark.parametrize("schema", [*FILES, *COMMANDS, *OTHERS], ids=lambda schema: schema.__name__)
def test_every_section_is_listed(schema: type) -> None:
    names = {f"{cls.__module__}.{cls.__name__}" for cls in sections(schema) if cls not in OTHERS}
    assert names <= set(LISTED)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_class_of_an_experiment_is_listed(path: Path) -> None:
    named = set(class_paths(yaml.safe_load(path.read_text())))
    assert len(named) >= 3
    assert {name for name in named if not name.startswith("torch.")} <= set(LISTED)


def test_nothing_is_listed_twice() -> None:
    assert len(LISTED) == len(set(LISTED)) > 40


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, "whole number"),
        (Annotated[float, Between(0, 1)] | None, "number or null"),
        (tuple[Path, ...], "list of paths"),
        (tuple[int, int], "list of whole numbers"),
        (tuple[bool | str, ...], "list, each true or false or text"),
        (dict[str, Component], "mapping"),
        (Experiment | DecoderExperiment, "section"),
        (Teacher, "class_path and init_args"),
    ],
)
def test_types_are_described(annotation: Any, expected: str) -> None:
    assert describe(annotation) == expected


@pytest.mark.parametrize(
    ("cls", "name", "expected"),
    [
        (Training, "max_steps", ", required"),
        (Training, "devices", ", default auto"),
        (Training, "compile", ", default false"),
        (ShardDataModule, "validation_samples", ", default null"),
        (CoreMLExport, "times", ", default [0.9, 0.3]"),
        (CoreMLExport, "out", ", default exports"),
        (CoreMLExport, "budget", ""),
    ],
)
def test_defaults_are_those_of_yaml(cls: type, name: str, expected: str) -> None:
    assert default(cls, arguments(cls)[0][name]) == expected


def test_documentation_includes_that_of_bases() -> None:
    texts = documented(LiteRTExport)
    assert texts["width"] == "Width of the sub-network."
    assert texts["litert"] == "Settings for running and timing the exported file."
    assert documented(ShardDataModule)["batch_size"] == "Samples per batch on each rank."

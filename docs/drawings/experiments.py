"""Loads the experiments whose settings the diagrams show."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load

ROOT = Path(__file__).parents[2]
PRETRAIN = ROOT / "experiments" / "paper" / "elastic_256.yaml"
DISTILL = ROOT / "experiments" / "paper" / "step_distill_1024.yaml"

Data = Mapping[str, Any]
"""The numbers that a diagram shows, as values that JSON can represent."""


@cache
def experiment(path: Path) -> Experiment:
    """Load an experiment without importing the classes that it names."""
    return load(path, [], Experiment, classes=False).config

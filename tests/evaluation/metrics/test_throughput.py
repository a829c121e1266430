"""Tests the search for the largest batch size and the measurement of throughput, using a stand-in for a model."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from evaluation.contract import ImageArray, Prompt
from evaluation.metrics.throughput import Throughput, largest_batch
from pocketdit.commands.main import main
from pocketdit.config.component import Component
from pocketdit.errors import ConfigError, RunError
from tests.conftest import ROOT

FILE = ROOT / "experiments" / "eval" / "throughput.yaml"


@pytest.mark.parametrize(
    ("capacity", "limit", "expected", "trials"),
    [
        (0, 8, 0, [1]),
        (1, 8, 1, [1, 2]),
        (5, 64, 5, [1, 2, 4, 8, 6, 5]),
        (64, 64, 64, [1, 2, 4, 8, 16, 32, 64]),
        (100, 12, 12, [1, 2, 4, 8, 12]),
        (7, 7, 7, [1, 2, 4, 7]),
    ],
)
def test_largest_batch_is_found(capacity: int, limit: int, expected: int, trials: list[int]) -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= capacity

    assert largest_batch(fits, limit) == expected
    assert tried == trials


class LimitedSubject:
    """A stand-in for a model that runs out of GPU memory above a certain batch size.

    This batch size is smaller by 1 if more than two sampling steps are taken.
    """

    calls: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, capacity: int, steps: int = 10, batch_size: int = 1) -> None:
        self.capacity, self.steps, self.batch_size = capacity, steps, batch_size

    def provenance(self) -> dict[str, Any]:
        return {"steps": self.steps, "guidance": 1.5, "dtype": "bfloat16"}

    def sample(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        assert number == 0
        assert {(prompt.metadata["height"], prompt.metadata["width"]) for prompt in prompts} == {(64, 96)}
        assert len(prompts) == self.batch_size
        self.calls.append((self.steps, len(prompts)))
        if len(prompts) > self.capacity - (self.steps > 2):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        time.sleep(0.01 * len(prompts))
        for prompt in prompts:
            yield prompt, np.zeros((64, 96, 3), np.uint8)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the tests, so that configurations may use the classes of this module."""
    (tmp_path / "pocketdit.toml").write_text('[trust]\nmodules = ["tests"]\n')
    monkeypatch.chdir(tmp_path)


def limited(capacity: int) -> Throughput:
    component = Component(f"{__name__}.LimitedSubject", {"capacity": capacity})
    return Throughput(component, size=(64, 96), max_batch=16, repeats=2)


@pytest.mark.usefixtures("trusted")
def test_throughput_is_measured_with_the_largest_batch_that_fits() -> None:
    LimitedSubject.calls.clear()
    result = limited(capacity=6).measure()
    assert LimitedSubject.calls == [(2, 1), (2, 2), (2, 4), (2, 8), (2, 6), (2, 7), (10, 6), (10, 5), (10, 5), (10, 5)]
    assert result.metric == "throughput"
    assert result.scores["batch"].value == 5
    assert 20 < result.scores["overall"].value <= 100  # each image takes at least 10 ms
    (note,) = result.notes
    assert "10 steps, guidance 1.5, bfloat16, 64x96 pixels, batches of 5, CPU" in note
    assert "max_batch" not in note
    with pytest.raises(RunError, match="an image of 64x96 pixels does not fit into memory"):
        limited(capacity=0).measure()


def test_wrong_settings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="size: sides must be multiples of 32, not 1000x1024"):
        Throughput(Component("x.Y"), size=(1000, 1024))
    folder = ["subject.class_path=evaluation.subjects.image_folder.ImageFolder", "subject.init_args={path: x}"]
    assert main(["evaluate", str(FILE), *folder, f"out={tmp_path / 'out'}"]) == 2
    assert "ImageFolder is not a subject that samples images" in capsys.readouterr().err

"""Tests the estimates of the memory that a training process needs in addition to its tensors."""

import pytest
from torch import nn

from pocketdit.config.experiment import AnyExperiment, kind_of
from pocketdit.config.load import load
from pocketdit.running.program_memory import FORWARD_ONLY, KERNELS_PER_LENGTH, PROGRAM, program_memory
from pocketdit.training.cost import Pass, PassCount, StageCost
from pocketdit.training.kernels import Kernels
from pocketdit.training.step_count import StepCount
from tests.conftest import ROOT

LONGEST = 80  # maximum number of tokens of the built-in text encoders


def experiment(name: str, *overrides: str) -> AnyExperiment:
    path = ROOT / "experiments" / f"{name}.yaml"
    return load(path, overrides, kind_of(path)).config


def count(*passes: tuple[int, bool]) -> StepCount:
    """Return the step count for passes, each given as the network's number of parameters and whether it is trained."""
    steps = [Pass("", lambda: None, nn.Identity(), parameters, trained=trained) for parameters, trained in passes]
    cost = StageCost(128, 1, 1, lambda _: steps, lambda _: lambda: None, {}, 0)
    empty = PassCount(Kernels(), Kernels(), 0, 0, 0)
    return StepCount(cost, [(step, empty) for step in steps], Kernels())


@pytest.mark.parametrize(("steps", "accumulate", "lengths"), [(10, 1, 10), (10, 3, 30), (3000, 1, LONGEST)])
def test_every_batch_may_have_another_length(steps: int, accumulate: int, lengths: int) -> None:
    overrides = (f"training.max_steps={steps}", f"training.accumulate={accumulate}")
    memory = program_memory(experiment("elastic_pretrain", *overrides), count((1, True), (2, True)))
    assert memory == {
        "program and libraries": PROGRAM,
        f"kernels for {lengths} text lengths": int(2 * lengths * KERNELS_PER_LENGTH),
    }


def test_passes_through_one_network_share_its_kernels() -> None:
    config = experiment("elastic_pretrain", "training.max_steps=1")
    shared = program_memory(config, count((1, False), (1, True), (1, True)))
    assert shared["kernels for 1 text length"] == int(KERNELS_PER_LENGTH)
    teacher = program_memory(config, count((1, True), (2, False)))
    assert teacher["kernels for 1 text length"] == int(KERNELS_PER_LENGTH * (1 + FORWARD_ONLY))


def test_a_decoder_reads_no_text() -> None:
    assert program_memory(experiment("tiny_decoder"), count((1, True))) == {"program and libraries": PROGRAM}

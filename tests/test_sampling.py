"""Tests that sampling reports its progress, and that an exception in the progress callback ends it."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import load_experiment
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.running.assemble import build_encoders
from pocketdit.running.sampling_options import with_sampling
from pocketdit.sampling import sample
from tests.export.conftest import tiny_run


@pytest.mark.parametrize("sampler", get_args(SamplerName))
def test_steps_are_counted_over_all_batches_and_do_not_change_the_images(sampler: str, tmp_path: Path) -> None:
    folder = tiny_run(tmp_path, "t")
    prompts = ("a", "b", "c")
    experiment = with_sampling(load_experiment(folder), prompts=prompts, steps=3, sampler=sampler, size=(32, 32))
    network, encoders = load_network(folder), build_encoders(experiment)
    counts: list[int] = []
    images = sample(network, encoders, prompts, 0.5, experiment.sampling, 2, counts.append)
    assert torch.equal(images, sample(network, encoders, prompts, 0.5, experiment.sampling, 2))
    evaluations_of_a_batch = [0, 1, 1, 2, 2] if sampler == "heun" else [0, 1, 2]
    assert counts == [*evaluations_of_a_batch, *(count + 3 for count in evaluations_of_a_batch)]


def test_an_exception_ends_the_sampling(tmp_path: Path) -> None:
    folder = tiny_run(tmp_path, "t")
    experiment = load_experiment(folder)
    network, encoders = load_network(folder), build_encoders(experiment)

    def stop(step: int) -> None:
        if step == 2:
            raise KeyError(step)

    with pytest.raises(KeyError, match="2"):
        sample(network, encoders, ("a",), 0.5, experiment.sampling, on_step=stop)

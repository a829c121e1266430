"""Tests for the validation protocol, in which the noise and its eight levels are fixed."""

import torch

from pocketdit.losses.validation import fixed_noise, level_times, sample_ids


def test_levels_are_evenly_spaced() -> None:
    assert level_times() == [0.0625, 0.1875, 0.3125, 0.4375, 0.5625, 0.6875, 0.8125, 0.9375]


def test_noise_depends_on_sample_and_level_but_not_on_the_batch() -> None:
    shape = torch.Size((2, 4, 4))
    together, alone = fixed_noise(torch.tensor([3, 8, 5]), 2, shape), fixed_noise(torch.tensor([8]), 2, shape)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[2])
    assert not torch.equal(alone, fixed_noise(torch.tensor([8]), 3, shape))


def test_noise_is_standard_normal_and_uncorrelated_between_neighbors() -> None:
    noise = fixed_noise(torch.arange(200), 0, torch.Size((16, 8, 8))).flatten(1)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs((noise[:-1] * noise[1:]).mean()) < 0.01


def test_sample_ids_come_from_the_batch_or_from_the_position() -> None:
    captions = ["a", "b", "c"]
    ids = torch.tensor([7, 1, 5])
    assert sample_ids({"captions": captions, "ids": ids}, 2) is ids
    first, last = sample_ids({"captions": captions}, 1), sample_ids({"captions": captions[:2]}, 2)
    assert len({*first.tolist(), *last.tolist()}) == 5, "a short last batch must have unique IDs"

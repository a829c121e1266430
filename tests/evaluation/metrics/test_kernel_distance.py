"""Tests the kernel distance against a double loop, clean-fid and torchmetrics."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pocketdit  # noqa: F401  (imported first so that torchmetrics can import torchvision)
from evaluation.metrics.kernel_distance import kernel_distance, squared_mmd
from pocketdit.errors import UserError

Floats = NDArray[np.float64]


def features(count: int, seed: int, shift: float = 0.0) -> Floats:
    return np.asarray(np.random.default_rng(seed).normal(size=(count, 6)) + shift)


def mmd_by_loops(x: Floats, y: Floats) -> float:
    def k(a: Floats, b: Floats) -> float:
        return float((sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3)

    within = [
        sum(k(z[i], z[j]) for i, j in itertools.permutations(range(len(z)), 2)) / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    return within[0] + within[1] - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


def test_mmd_matches_a_double_loop() -> None:
    x, y = features(7, 1), features(9, 2, shift=0.5)
    assert squared_mmd(x, y) == pytest.approx(mmd_by_loops(x, y), rel=1e-12)


def test_complete_sets_match_clean_fid() -> None:
    """Each subset that clean-fid draws here is a complete set in a different order, so the results must be equal."""
    from cleanfid.fid import kernel_distance as clean_fid

    x, y = features(40, 1), features(40, 2, shift=0.3)
    distance = kernel_distance(x, y)
    assert distance.mean == pytest.approx(clean_fid(x, y, num_subsets=3, max_subset_size=1000), rel=1e-10)
    assert (distance.subsets, distance.subset_size, distance.std) == (1, 40, 0.0)


def test_subsets_match_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd

    x, y = features(50, 1), features(80, 2, shift=0.3)
    distance = kernel_distance(x, y, subsets=5, subset_size=20, seed=7)
    random = np.random.default_rng(7)
    values = []
    for _ in range(5):
        a = torch.from_numpy(x[random.choice(50, 20, replace=False)])
        b = torch.from_numpy(y[random.choice(80, 20, replace=False)])
        values.append(float(poly_mmd(a, b)))
    assert distance.mean == pytest.approx(np.mean(values), rel=1e-10)
    assert distance.std == pytest.approx(np.std(values), rel=1e-10)
    assert distance == kernel_distance(x, y, subsets=5, subset_size=20, seed=7)
    assert distance.mean != kernel_distance(x, y, subsets=5, subset_size=20, seed=8).mean


def test_mmd_is_unbiased() -> None:
    """The mean over many pairs of small sets is 0 for equal distributions, and positive if one of them is shifted."""
    values = [squared_mmd(features(5, 2 * seed), features(5, 2 * seed + 1)) for seed in range(3000)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0
    shifted = [squared_mmd(features(5, 2 * seed), features(5, 2 * seed + 1, shift=0.5)) for seed in range(3000)]
    assert np.mean(shifted) > 20 * error


def test_small_sets_shrink_the_subsets() -> None:
    assert kernel_distance(features(9, 1), features(30, 2), subsets=4)[2:] == (4, 9)


def test_invalid_features_are_errors() -> None:
    with pytest.raises(UserError, match=r"\(4, 6\) and \(4, 5\) are not comparable"):
        kernel_distance(features(4, 1), features(4, 2)[:, :5])
    with pytest.raises(UserError, match="1 and 4 images"):
        kernel_distance(features(1, 1), features(4, 2))
    with pytest.raises(UserError, match="not finite"):
        kernel_distance(features(4, 1) * np.nan, features(4, 2))

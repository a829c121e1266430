"""Tests one-dimensional k-means against known results, the exact optimum, and scikit-learn."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pocketdit.quantization import kmeans
from pocketdit.quantization.kmeans import Points
from pocketdit.quantization.palette import palettize


def optimal_inertia(values: Points, counts: Points, clusters: int) -> float:
    """Compute the smallest possible inertia with dynamic programming over the cluster boundaries, in O(k n^2) time."""
    mass, moment, square = (np.concatenate([[0], np.cumsum(counts * values**power)]) for power in (0, 1, 2))
    ends = np.arange(len(values) + 1)

    def cost(first: int, last: NDArray[np.int64]) -> Points:
        """Compute the inertia of clusters that begin at ``first`` and end before ``last``."""
        inertia: Points = square[last] - square[first]
        inertia -= (moment[last] - moment[first]) ** 2 / np.maximum(mass[last] - mass[first], 1e-12)
        return inertia

    best = np.where(ends > 0, cost(0, ends), 0.0)
    for _ in range(clusters - 1):
        following = best.copy()
        for first in range(1, len(values)):
            following[first + 1 :] = np.minimum(following[first + 1 :], best[first] + cost(first, ends[first + 1 :]))
        best = following
    return float(best[-1])


def test_centers_of_a_small_example() -> None:
    """The center of a cluster is the mean of its values. A value that occurs twice counts twice."""
    weight = torch.tensor([[-1.0, -1.0, -1.75], [0.0, 0.0, 0.25], [3.0, 4.0, 5.0]])
    values, counts = kmeans.count_values(kmeans.fp16_codes(weight))
    assert values.tolist() == [-1.75, -1.0, 0.0, 0.25, 3.0, 4.0, 5.0]
    assert counts.tolist() == [1, 2, 2, 1, 1, 1, 1]
    np.testing.assert_allclose(kmeans.fit_centers(values, counts, 3), [-1.25, 0.25 / 3, 4.0])
    assert kmeans.inertia(values, counts, np.array([-1.25, 0.25 / 3, 4.0])) == pytest.approx(
        2 * 0.0625 + 0.25 + 2 * (1 / 12) ** 2 + (1 / 6) ** 2 + 2
    )


def test_few_distinct_values_are_stored_exactly() -> None:
    weight = torch.tensor([0.5, -2.0, 0.5, 7.0])
    palette = palettize(weight, 4)
    assert palette.values.tolist() == [-2.0, 0.5] + [7.0] * 14
    assert torch.equal(palette.dense(), weight)
    assert not palettize(torch.zeros(3, 3), 4).dense().any()


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("shape", ["normal", "heavy tails", "two clusters"])
def test_inertia_is_close_to_the_optimum(bits: int, shape: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(400, generator=generator)
    if shape == "heavy tails":
        weight = weight / torch.rand(400, generator=generator).clamp_min(0.05)
    if shape == "two clusters":
        weight[:200] = weight[:200] * 0.01 + 3
    values, counts = kmeans.count_values(kmeans.fp16_codes(weight))
    actual = kmeans.inertia(values, counts, kmeans.fit_centers(values, counts, 2**bits))
    least = optimal_inertia(values, counts, 2**bits)
    assert least <= actual * (1 + 1e-9)
    assert actual <= 1.06 * least


@pytest.mark.parametrize("bits", [4, 8])
def test_inertia_is_not_worse_than_with_scikit_learn(bits: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(1)) * 0.03
    theirs = cluster.KMeans(2**bits, n_init=2, random_state=0).fit(weight.half().double().reshape(-1, 1).numpy())
    ours = (palettize(weight, bits).dense() - weight.half().float()).double().square().sum().item()
    assert ours <= 1.02 * theirs.inertia_


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_palette_is_fp16_and_weights_use_the_nearest_value(bits: int) -> None:
    weight = torch.randn(30, 40, generator=torch.Generator().manual_seed(2))
    palette = palettize(weight, bits)
    assert palette.values.dtype == torch.float16
    assert palette.values.shape == (2**bits,)
    assert palette.bits == bits
    assert palette.indices.dtype == torch.uint8
    assert palette.indices.shape == weight.shape
    assert torch.equal(palette.dense(), palette.values.float()[palette.indices.long()])
    assert torch.equal(palette.dense().half().float(), palette.dense())
    distances = (weight.half().float()[..., None] - palette.values.float()).abs()
    torch.testing.assert_close((palette.dense() - weight.half().float()).abs(), distances.amin(-1))
    again = palettize(weight, bits)
    assert torch.equal(again.values, palette.values)
    assert torch.equal(again.indices, palette.indices)


def test_invalid_palettes_are_rejected() -> None:
    with pytest.raises(ValueError, match="bits must be between 1 and 8, not 9"):
        palettize(torch.ones(3), 9)
    with pytest.raises(ValueError, match="not finite in fp16"):
        palettize(torch.tensor([1.0, 1e6]), 4)

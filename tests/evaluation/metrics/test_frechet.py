"""Tests the Fréchet distance against known values, 50-digit arithmetic and scipy's sqrtm."""

import json
import os
from pathlib import Path
from typing import Any

import mpmath  # type: ignore[import-untyped]  # mpmath has no py.typed marker
import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from evaluation.metrics.frechet import Gaussian, check_golden, frechet_distance, statistics
from pocketdit.errors import UserError

Floats = NDArray[np.float64]

# In one dimension, the distance is (difference of means)² + (difference of standard deviations)². If the covariances
# are diagonal, the distance is the sum over the dimensions.
CASES: dict[str, Any] = {
    "cases": [
        {"mu1": [1.0], "mu2": [4.0], "sigma1": [[4.0]], "sigma2": [[25.0]], "fd": 9.0 + 9.0},
        {"mu1": [0, 0], "mu2": [0, 2], "sigma1": [[1, 0], [0, 9]], "sigma2": [[4, 0], [0, 0]], "fd": 4.0 + 1 + 9},
        {"mu1": [7, 7], "mu2": [7, 7], "sigma1": [[2, 1], [1, 3]], "sigma2": [[2, 1], [1, 3]], "fd": 0.0},
    ]
}


def covariance(dimensions: int, condition: float, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(random.normal(size=(dimensions, dimensions)))
    matrix = (basis * np.geomspace(1, 1 / condition, dimensions)) @ basis.T
    return np.asarray((matrix + matrix.T) / 2)


def exact(first: Floats, second: Floats) -> float:
    """Compute tr S₁ + tr S₂ - 2 tr (S₁ S₂)^½ with 50 digits."""
    with mpmath.workdps(50):
        a, b = mpmath.matrix(first.tolist()), mpmath.matrix(second.tolist())
        lower = mpmath.cholesky(a)
        squares = mpmath.eigsy(lower.T * b * lower, eigvals_only=True)
        roots = mpmath.fsum(mpmath.sqrt(max(value, mpmath.mpf(0))) for value in squares)
        trace = mpmath.fsum(m[i, i] for m in (a, b) for i in range(len(first)))
        return float(trace - 2 * roots)


def distance(first: Floats, second: Floats) -> float:
    zero = np.zeros(len(first))
    return frechet_distance(Gaussian.from_moments(zero, first), Gaussian.from_moments(zero, second))


def samples(count: int, dimensions: int, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    return np.asarray(random.normal(size=(count, dimensions)) @ random.normal(size=(dimensions, dimensions)) + seed)


def by_sqrtm(x: Floats, y: Floats) -> float:
    """Evaluate the textbook formula, which is accurate only to 1e-7 if the covariances are singular."""
    (mean1, s1), (mean2, s2) = statistics(x), statistics(y)
    root = np.real(scipy.linalg.sqrtm(s1 @ s2))
    return float(np.sum((mean1 - mean2) ** 2) + np.trace(s1 + s2 - 2 * root))


def test_known_answers_agree() -> None:
    assert [difference for _, difference in check_golden(CASES)] == [None, None, None]


def test_case_off_by_a_billionth_is_reported() -> None:
    case = CASES["cases"][0] | {"fd": 18.0 * (1 + 1e-9)}
    ((name, difference),) = check_golden({"cases": [case]})
    assert name == "case 0, 1 dimensions"
    assert difference is not None
    assert "18.0" in difference


def test_case_with_invalid_moments_is_reported() -> None:
    case = CASES["cases"][0] | {"mu1": [float("nan")]}
    ((_, difference),) = check_golden({"cases": [case]})
    assert difference is not None
    assert "not finite" in difference


@pytest.mark.skipif("POCKETDIT_EVALUATION_DATA" not in os.environ, reason="POCKETDIT_EVALUATION_DATA is not set")
def test_published_values_agree() -> None:
    path = Path(os.environ["POCKETDIT_EVALUATION_DATA"]) / "golden" / "frechet.json"
    outcomes = list(check_golden(json.loads(path.read_text())))
    assert outcomes
    assert [outcome for outcome in outcomes if outcome[1] is not None] == []


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("dimensions", [1, 3, 16])
def test_distance_matches_fifty_digit_arithmetic(dimensions: int, condition: float) -> None:
    first, second = covariance(dimensions, condition, 1), 2 * covariance(dimensions, condition, 2)
    assert distance(first, second) == pytest.approx(exact(first, second), rel=1e-11)


def test_distance_of_singular_covariances_is_accurate() -> None:
    """For covariances of rank 5 in 12 dimensions, sqrtm and eigenvalues without a threshold are off by 1e-8."""
    random = np.random.default_rng(3)
    a, b = random.normal(size=(5, 12)), random.normal(size=(5, 12))
    expected = np.sum(a**2) + np.sum(b**2) - 2 * scipy.linalg.svdvals(a @ b.T).sum()
    assert distance(a.T @ a, b.T @ b) == pytest.approx(expected, rel=1e-12)
    assert distance(a.T @ a, a.T @ a) < 1e-12
    full = covariance(12, 10.0, 4)
    expected = np.sum(a**2) + np.trace(full) - 2 * scipy.linalg.svdvals(a @ np.linalg.cholesky(full)).sum()
    assert distance(a.T @ a, full) == pytest.approx(expected, rel=1e-12)


def test_tiny_variances_contribute() -> None:
    """Even variances below the rounding error of the largest variance contribute exactly."""
    first, second = np.diag([1.0, 1e-16, 1e-20]), np.diag([1e-16, 1.0, 1e-20])
    expected = np.sum((np.sqrt(np.diag(first)) - np.sqrt(np.diag(second))) ** 2)
    assert distance(first, second) == pytest.approx(float(expected), rel=1e-14)


def test_distance_without_variance_is_that_of_the_means() -> None:
    zero = np.zeros((3, 3))
    first, second = Gaussian.from_moments([0, 0, 0], zero), Gaussian.from_moments([1, 2, 2], np.eye(3))
    assert frechet_distance(first, second) == pytest.approx(9.0 + 3.0)
    assert frechet_distance(first, Gaussian.from_moments([1, 2, 2], zero)) == pytest.approx(9.0)


@pytest.mark.parametrize("counts", [(200, 150), (10, 8), (10, 200), (21, 20), (20, 20)])
def test_distance_matches_the_textbook_formula_for_any_root(counts: tuple[int, int]) -> None:
    """In 20 dimensions, both sets are large, both are small, only one is small, or both have about 20 samples."""
    x, y = samples(counts[0], 20, 1), samples(counts[1], 20, 2)
    result = frechet_distance(Gaussian.from_samples(x), Gaussian.from_samples(y))
    assert result == pytest.approx(by_sqrtm(x, y), rel=1e-6)
    through_moments = [Gaussian.from_moments(*statistics(z)) for z in (x, y)]
    assert result == pytest.approx(frechet_distance(*through_moments), rel=1e-9)


def test_root_consists_of_the_samples_if_they_are_few() -> None:
    gaussian = Gaussian.from_samples(samples(6, 50, 1))
    assert gaussian.root.shape == (6, 50)


def test_distance_is_symmetric_and_invariant_under_rotation_and_translation() -> None:
    x, y = samples(60, 8, 1), samples(70, 8, 2)
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(8, 8)))
    expected = frechet_distance(Gaussian.from_samples(x), Gaussian.from_samples(y))
    assert frechet_distance(Gaussian.from_samples(y), Gaussian.from_samples(x)) == pytest.approx(expected, rel=1e-12)
    moved = [Gaussian.from_samples(z @ rotation + 3) for z in (x, y)]
    assert frechet_distance(*moved) == pytest.approx(expected, rel=1e-10)
    shifted = frechet_distance(Gaussian.from_samples(x), Gaussian.from_samples(x + 2))
    assert shifted == pytest.approx(8 * 4.0, rel=1e-10)


def test_statistics_match_numpy() -> None:
    x = samples(30, 4, 6)
    mean, matrix = statistics(x.astype(np.float32))
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(matrix, np.cov(x, rowvar=False, ddof=1), rtol=1e-5)
    assert mean.dtype == matrix.dtype == np.float64


def test_invalid_samples_and_moments_are_errors() -> None:
    x = samples(5, 3, 0)
    x[3, 1] = np.nan
    with pytest.raises(UserError, match="image 3 are not finite"):
        Gaussian.from_samples(x)
    with pytest.raises(UserError, match="at least 2 images"):
        Gaussian.from_samples(np.zeros((1, 3)))
    with pytest.raises(UserError, match=r"\(2,\) does not match .* \(3, 3\)"):
        Gaussian.from_moments([0, 0], np.eye(3))
    with pytest.raises(UserError, match="not finite"):
        Gaussian.from_moments([0, 0], [[1, np.inf], [np.inf, 1]])
    with pytest.raises(UserError, match="not symmetric"):
        Gaussian.from_moments([0, 0], [[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(UserError, match=r"negative eigenvalue \(-1\)"):
        Gaussian.from_moments([0, 0], [[1, 2], [2, 1]])
    with pytest.raises(UserError, match="2 dimensions cannot be compared with features with 3"):
        frechet_distance(Gaussian.from_moments([0] * 2, np.eye(2)), Gaussian.from_moments([0] * 3, np.eye(3)))

"""The Fréchet distance of two Gaussians (Dowson and Landau 1982; FID: Heusel et al. 2017, arXiv 1706.08500).

    d² = |μ₁ - μ₂|² + tr S₁ + tr S₂ - 2 tr (S₁ S₂)^½

The computation is exact and uses float64; in float32, the result is off by about 1%. If R₁ and R₂ are roots of the
covariances, that is, S = Rᵀ R, then tr (S₁ S₂)^½ is the nuclear norm of R₁ R₂ᵀ, so the square root of a non-symmetric
matrix is never needed. The root is computed from the centered samples if there are no more samples than dimensions.
Otherwise, it is the Cholesky factor or, for a singular covariance, it is computed from the eigenvectors.

Shapes: N samples, D dimensions, R rows of a root.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from pocketdit.errors import UserError

Floats = NDArray[np.float64]

_GOLDEN_TOLERANCE = 1e-10
# Rounding error of float64 at a few thousand dimensions, relative to the terms that are subtracted.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian, represented by its mean and a root of its covariance.

    Attributes:
        mean: Mean (D,).
        root: Root (R, D), with covariance = rootᵀ root.
        definite: Whether the root is square and nonsingular.
    """

    mean: Floats
    root: Floats
    definite: bool

    @classmethod
    def from_samples(cls, features: ArrayLike) -> "Gaussian":
        """Fit a Gaussian to samples (N, D) with N >= 2. If N <= D, the root consists of the scaled, centered samples.

        Raises:
            UserError: The array has a different shape, or values are not finite.
        """
        samples = _checked_samples(features)
        if len(samples) > samples.shape[1]:
            return cls.from_moments(*statistics(samples))
        mean = samples.mean(axis=0)
        return cls(mean, (samples - mean) / math.sqrt(len(samples) - 1), definite=False)

    @classmethod
    def from_moments(cls, mean: ArrayLike, covariance: ArrayLike) -> "Gaussian":
        """Create a Gaussian from a mean (D,) and a covariance (D, D), which may be singular.

        Raises:
            UserError: The shapes do not match, values are not finite, or the matrix is not a covariance.
        """
        center, matrix = np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
        if center.ndim != 1 or not center.size or matrix.shape != (len(center), len(center)):
            raise UserError(f"a mean of shape {center.shape} does not match a covariance of shape {matrix.shape}")
        if not np.isfinite(center).all() or not np.isfinite(matrix).all():
            raise UserError("a mean or covariance is not finite; compute the features again")
        return cls(center, *_root(matrix))


def statistics(features: ArrayLike) -> tuple[Floats, Floats]:
    """Return the mean (D,) and the covariance (D, D) of samples (N, D), with divisor N - 1.

    Raises:
        UserError: There are fewer than 2 samples, or values are not finite.
    """
    samples = _checked_samples(features)
    mean = samples.mean(axis=0)
    centered = samples - mean
    return mean, centered.T @ centered / (len(samples) - 1)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Return the squared distance d² defined above, which is what FID reports.

    Raises:
        UserError: The Gaussians have different dimensions.
    """
    if first.mean.shape != second.mean.shape:
        raise UserError(
            f"features with {first.mean.size} dimensions cannot be compared with features with {second.mean.size} "
            "dimensions; use the same network for both"
        )
    difference = first.mean - second.mean
    traces = np.sum(first.root**2) + np.sum(second.root**2)
    distance = difference @ difference + traces - 2 * _nuclear_norm(first, second)
    return max(float(distance), 0.0)


def check_golden(data: Any) -> Iterator[tuple[str, str | None]]:
    """Compare computed distances with stored ones.

    A distance agrees if its relative error is at most 1e-10, or if its error is within the rounding error of the terms
    that are subtracted.

    Args:
        data: ``data["cases"]`` lists objects with "mu1", "sigma1", "mu2", "sigma2" and "fd".

    Yields:
        The name of each case, with a description of the difference, or with None if the case agrees.
    """
    for number, case in enumerate(data["cases"]):
        name = f"case {number}, {len(case['mu1'])} dimensions"
        try:
            first = Gaussian.from_moments(case["mu1"], case["sigma1"])
            second = Gaussian.from_moments(case["mu2"], case["sigma2"])
            distance = frechet_distance(first, second)
        except UserError as error:
            yield name, str(error)
            continue
        expected = float(case["fd"])
        terms = np.sum((first.mean - second.mean) ** 2) + np.sum(first.root**2) + np.sum(second.root**2)
        equal = math.isclose(distance, expected, rel_tol=_GOLDEN_TOLERANCE, abs_tol=_ROUNDING * float(terms))
        yield name, None if equal else f"{distance!r}, expected {expected!r}"


def _checked_samples(features: ArrayLike) -> Floats:
    samples = np.asarray(features, dtype=np.float64)
    if samples.ndim != 2 or len(samples) < 2 or not samples.shape[1]:
        raise UserError(f"features of shape {samples.shape}: a distribution needs at least 2 images")
    if not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples).all(axis=1))[0])
        raise UserError(f"the features of image {bad} are not finite; check the image and the network's weights")
    return samples


def _root(matrix: Floats) -> tuple[Floats, bool]:
    """Return a root (R, D) of a covariance, and whether it is square and nonsingular."""
    scale = float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > 1e-8 * scale:
        raise UserError("a covariance is not symmetric; compute the statistics again")
    noise = len(matrix) * np.finfo(np.float64).eps
    try:
        lower = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        pass
    else:
        # Due to rounding, some singular matrices have a Cholesky factor, which would cause errors of 1e-8.
        if (np.diag(lower) ** 2 > noise * np.diag(matrix)).all():
            return np.asarray(lower.T, dtype=np.float64), True
    values, vectors = np.linalg.eigh(matrix)
    if values[0] < -1e-6 * scale:
        raise UserError(f"a covariance has a negative eigenvalue ({values[0]:.3g}); compute the statistics again")
    positive = values > noise * max(float(values[-1]), 0.0)
    return np.asarray(np.sqrt(values[positive])[:, None] * vectors[:, positive].T, dtype=np.float64), False


def _nuclear_norm(first: Gaussian, second: Gaussian) -> float:
    """Return the sum of the singular values of R₁ R₂ᵀ."""
    product = first.root @ second.root.T
    if not product.size:
        return 0.0
    if first.definite and second.definite:
        # Computing eigenvalues is twice as fast as computing singular values, and just as accurate if none is zero.
        squares = np.linalg.eigvalsh(product.T @ product)
        return float(np.sum(np.sqrt(np.maximum(squares, 0.0))))
    return float(np.sum(scipy.linalg.svdvals(product)))

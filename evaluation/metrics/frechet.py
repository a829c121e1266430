"""The Fréchet distance of two Gaussians (Dowson and Landau 1982; FID: Heusel et al. 2017, arXiv 1706.08500).

    d² = |μ₁ - μ₂|² + tr S₁ + tr S₂ - 2 tr (S₁ S₂)^½

Exact and in float64: float32 is wrong by about 1 %. With roots S = Rᵀ R of any kind, tr (S₁ S₂)^½ is the nuclear norm
of R₁ R₂ᵀ, so no square root of a matrix that is not symmetric is ever taken. Which root there is decides the form:
centred samples where there are fewer of them than dimensions, else Cholesky's factor, else (singular) the eigenvectors.

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
_ROUNDING = 1e-13  # of the terms that the distance is a difference of; what float64 leaves at a few thousand dimensions


@dataclass(frozen=True)
class Gaussian:
    """``mean`` (D,), and a ``root`` (R, D) of the covariance: rootᵀ root. ``definite``: the root is square, regular."""

    mean: Floats
    root: Floats
    definite: bool

    @classmethod
    def from_samples(cls, features: ArrayLike) -> "Gaussian":
        """Of samples (N, D), N at least 2; fewer than D + 1 of them are their own root.

        Raises:
            UserError: not of this shape, or not finite.
        """
        samples = _samples(features)
        if len(samples) > samples.shape[1]:
            return cls.from_moments(*statistics(samples))
        mean = samples.mean(axis=0)
        return cls(mean, (samples - mean) / math.sqrt(len(samples) - 1), definite=False)

    @classmethod
    def from_moments(cls, mean: ArrayLike, covariance: ArrayLike) -> "Gaussian":
        """Of a mean (D,) and a covariance (D, D), which may be singular.

        Raises:
            UserError: shapes that do not meet, numbers that are not finite, or a matrix that is no covariance.
        """
        centre, matrix = np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
        if centre.ndim != 1 or not centre.size or matrix.shape != (len(centre), len(centre)):
            raise UserError(f"a mean of shape {centre.shape} does not meet a covariance of shape {matrix.shape}")
        if not np.isfinite(centre).all() or not np.isfinite(matrix).all():
            raise UserError("a mean or covariance holds values that are not finite; make the features again")
        return cls(centre, *_root(matrix))


def statistics(features: ArrayLike) -> tuple[Floats, Floats]:
    """Mean (D,) and covariance (D, D), divided by N - 1, of samples (N, D); ``UserError`` as of ``from_samples``."""
    samples = _samples(features)
    mean = samples.mean(axis=0)
    centred = samples - mean
    return mean, centred.T @ centred / (len(samples) - 1)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """The squared distance d² above, which is what FID reports; ``UserError`` where the dimensions do not meet."""
    if first.mean.shape != second.mean.shape:
        raise UserError(
            f"features of {first.mean.size} dimensions do not compare with those of {second.mean.size}; "
            "take both from one network"
        )
    difference = first.mean - second.mean
    traces = np.sum(first.root**2) + np.sum(second.root**2)
    distance = difference @ difference + traces - 2 * _nuclear_norm(first, second)
    return max(float(distance), 0.0)


def check_golden(data: Any) -> Iterator[tuple[str, str | None]]:
    """Each case's name, and None or what differs; ``data["cases"]`` have mu1, sigma1, mu2, sigma2 and fd.

    Equal is within 1e-10 of the expected value, or within rounding of the terms whose difference it is.
    """
    for number, case in enumerate(data["cases"]):
        name = f"case {number}, {len(case['mu1'])} dimensions"
        try:
            first = Gaussian.from_moments(case["mu1"], case["sigma1"])
            second = Gaussian.from_moments(case["mu2"], case["sigma2"])
            found = frechet_distance(first, second)
        except UserError as error:
            yield name, str(error)
            continue
        expected = float(case["fd"])
        terms = np.sum((first.mean - second.mean) ** 2) + np.sum(first.root**2) + np.sum(second.root**2)
        equal = math.isclose(found, expected, rel_tol=_GOLDEN_TOLERANCE, abs_tol=_ROUNDING * float(terms))
        yield name, None if equal else f"{found!r}, expected {expected!r}"


def _samples(features: ArrayLike) -> Floats:
    samples = np.asarray(features, dtype=np.float64)
    if samples.ndim != 2 or len(samples) < 2 or not samples.shape[1]:
        raise UserError(f"features of shape {samples.shape}: a distribution needs at least 2 pictures of one width")
    if not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples).all(axis=1))[0])
        raise UserError(f"the features of picture {bad} are not finite; look at it and at the network's weights")
    return samples


def _root(matrix: Floats) -> tuple[Floats, bool]:
    """A root (R, D), and whether it is square and regular."""
    scale = float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > 1e-8 * scale:
        raise UserError("a covariance is not symmetric; make the statistics again")
    noise = len(matrix) * np.finfo(np.float64).eps
    try:
        lower = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        pass
    else:
        # Rounding lets some singular matrices pass, whose eigenvalues' square roots would then be wrong by 1e-8.
        if (np.diag(lower) ** 2 > noise * np.diag(matrix)).all():
            return np.asarray(lower.T, dtype=np.float64), True
    values, vectors = np.linalg.eigh(matrix)
    if values[0] < -1e-6 * scale:
        raise UserError(f"a covariance has the eigenvalue {values[0]:.3g} below 0; make the statistics again")
    kept = values > noise * max(float(values[-1]), 0.0)
    return np.asarray(np.sqrt(values[kept])[:, None] * vectors[:, kept].T, dtype=np.float64), False


def _nuclear_norm(first: Gaussian, second: Gaussian) -> float:
    """Of R₁ R₂ᵀ: the sum of its singular values."""
    product = first.root @ second.root.T
    if not product.size:
        return 0.0
    if first.definite and second.definite:
        # Half the time of singular values, and as exact where none of them is zero.
        squares = np.linalg.eigvalsh(product.T @ product)
        return float(np.sum(np.sqrt(np.maximum(squares, 0.0))))
    return float(np.sum(scipy.linalg.svdvals(product)))

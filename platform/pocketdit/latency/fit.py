"""Fit the coefficients of the cost model by least squares in log space, and estimate the error of its predictions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t as student

from pocketdit.export.common.census import Census
from pocketdit.latency.cost import Coefficients, milliseconds
from pocketdit.latency.devices import Device

# Initial values of the search; the overhead is in seconds.
_START = {"stream": 2.0, "compute": 0.7, "overhead": 1e-6}
_BASE = Coefficients(stream=_START["stream"])
COVERAGE = 0.8
"""Probability with which a prediction interval contains the true latency."""


@dataclass(frozen=True)
class Variant:
    """A variant of the cost model.

    Attributes:
        title: Name in tables.
        free: Names of the fitted coefficients.
        start: Values of the other coefficients.
    """

    title: str
    free: tuple[str, ...]
    start: Coefficients = _BASE


@dataclass(frozen=True)
class Fit:
    """A fitted cost model.

    Attributes:
        free: Names of the fitted coefficients.
        coefficients: All coefficients.
        residuals: log(predicted / measured) for each graph that was used for the fit.
        information: J'J, where J is the Jacobian of the log predictions with respect to the logs of the free
            coefficients.
    """

    free: tuple[str, ...]
    coefficients: Coefficients
    residuals: tuple[float, ...]
    information: tuple[tuple[float, ...], ...]

    @property
    def degrees_of_freedom(self) -> int:
        """Number of measurements minus the number of free coefficients."""
        return len(self.residuals) - len(self.free)

    @property
    def spread(self) -> float:
        """Standard deviation of the error of a log prediction. It is infinite without degrees of freedom."""
        if self.degrees_of_freedom < 1:
            return math.inf
        return math.sqrt(sum(r * r for r in self.residuals) / self.degrees_of_freedom)


def root_mean_square(values: Sequence[float]) -> float:
    """Return the root mean square of the values."""
    return math.sqrt(sum(value * value for value in values) / len(values))


def log_gradient(census: Census, device: Device, free: Sequence[str], coefficients: Coefficients) -> list[float]:
    """Return the derivative of the log latency with respect to the log of each free coefficient.

    The derivatives are central differences with a step of 1%.
    """
    slopes = []
    for name in free:
        value = getattr(coefficients, name)
        high, low = (milliseconds(census, device, replace(coefficients, **{name: value * f})) for f in (1.01, 1 / 1.01))
        slopes.append(math.log(high / low) / (2 * math.log(1.01)))
    return slopes


def fit_coefficients(
    censuses: Mapping[str, Census],
    measured: Mapping[str, float],
    names: Sequence[str],
    device: Device,
    variant: Variant,
) -> Fit:
    """Find the free coefficients that minimize the squared log error on the graphs in ``names``."""

    def coefficients(logs: Sequence[float]) -> Coefficients:
        return replace(variant.start, **{name: math.exp(value) for name, value in zip(variant.free, logs, strict=True)})

    def residuals(logs: Sequence[float]) -> list[float]:
        current = coefficients(logs)
        return [math.log(milliseconds(censuses[name], device, current) / measured[name]) for name in names]

    solution = least_squares(residuals, [math.log(_START[name]) for name in variant.free], diff_step=1e-4)
    best = coefficients(solution.x)
    slopes = np.array([log_gradient(censuses[name], device, variant.free, best) for name in names])
    information = tuple(tuple(float(value) for value in row) for row in slopes.T @ slopes)
    return Fit(variant.free, best, tuple(float(value) for value in residuals(solution.x)), information)


def leave_one_out(
    censuses: Mapping[str, Census], measured: Mapping[str, float], device: Device, variant: Variant
) -> dict[str, float]:
    """Predict the latency of each graph in milliseconds, with a fit to all other graphs."""
    predictions = {}
    for name, census in censuses.items():
        others = [other for other in censuses if other != name]
        fit = fit_coefficients(censuses, measured, others, device, variant)
        predictions[name] = milliseconds(census, device, fit.coefficients)
    return predictions


def prediction_interval(
    census: Census, device: Device, fit: Fit, coverage: float = COVERAGE
) -> tuple[float, float, float]:
    """Predict the latency of a graph in milliseconds, with a prediction interval from the regression in log space.

    The interval uses Student's t distribution with the degrees of freedom of the fit. It covers the error of the
    individual graph and the error of the coefficients.

    Returns:
        The prediction, and the lower and upper ends of the interval.
    """
    middle = milliseconds(census, device, fit.coefficients)
    slopes = np.array(log_gradient(census, device, fit.free, fit.coefficients))
    leverage = float(slopes @ np.linalg.pinv(np.array(fit.information)) @ slopes)
    half = student.ppf((1 + coverage) / 2, fit.degrees_of_freedom) * fit.spread * math.sqrt(1 + leverage)
    return middle, middle * math.exp(-half), middle * math.exp(half)

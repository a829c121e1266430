"""Least squares in log space for the cost model's coefficients, and what it says about its own errors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t as student

from pocketdit.export.census import Census
from pocketdit.latency.cost import Coefficients, milliseconds
from pocketdit.latency.devices import Device

# Where the search for each coefficient begins; the unit of the small one is seconds.
_START = {"stream": 2.0, "compute": 0.7, "overhead": 1e-6}
_BASE = Coefficients(stream=_START["stream"])
COVERAGE = 0.8


@dataclass(frozen=True)
class Variant:
    """A model: ``free`` are fitted, the others stay as in ``start``."""

    title: str
    free: tuple[str, ...]
    start: Coefficients = _BASE


@dataclass(frozen=True)
class Fit:
    """``residuals``: log(predicted / measured) of what was fitted. ``information``: J'J, where J are the derivatives of
    the log predictions in the logs of the free coefficients.
    """

    free: tuple[str, ...]
    coefficients: Coefficients
    residuals: tuple[float, ...]
    information: tuple[tuple[float, ...], ...]

    @property
    def freedom(self) -> int:
        return len(self.residuals) - len(self.free)

    @property
    def spread(self) -> float:
        """Standard deviation of a log prediction's error; infinite where there are as many coefficients as figures."""
        if self.freedom < 1:
            return math.inf
        return math.sqrt(sum(r * r for r in self.residuals) / self.freedom)


def root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))


def gradient(census: Census, device: Device, free: Sequence[str], coefficients: Coefficients) -> list[float]:
    """d log(milliseconds) / d log(coefficient), by a central difference of 1 %."""
    slopes = []
    for name in free:
        value = getattr(coefficients, name)
        high, low = (milliseconds(census, device, replace(coefficients, **{name: value * f})) for f in (1.01, 1 / 1.01))
        slopes.append(math.log(high / low) / (2 * math.log(1.01)))
    return slopes


def fit(
    censuses: Mapping[str, Census],
    measured: Mapping[str, float],
    names: Sequence[str],
    device: Device,
    variant: Variant,
) -> Fit:
    """The coefficients with the least squared log errors on ``names``; nothing else is looked at."""

    def coefficients(logs: Sequence[float]) -> Coefficients:
        return replace(variant.start, **{name: math.exp(value) for name, value in zip(variant.free, logs, strict=True)})

    def residuals(logs: Sequence[float]) -> list[float]:
        now = coefficients(logs)
        return [math.log(milliseconds(censuses[name], device, now) / measured[name]) for name in names]

    found = least_squares(residuals, [math.log(_START[name]) for name in variant.free], diff_step=1e-4)
    best = coefficients(found.x)
    slopes = np.array([gradient(censuses[name], device, variant.free, best) for name in names])
    information = tuple(tuple(float(value) for value in row) for row in slopes.T @ slopes)
    return Fit(variant.free, best, tuple(float(value) for value in residuals(found.x)), information)


def leave_one_out(
    censuses: Mapping[str, Census], measured: Mapping[str, float], device: Device, variant: Variant
) -> dict[str, float]:
    """Every graph's milliseconds, predicted by a fit to the others."""
    return {
        name: milliseconds(
            censuses[name],
            device,
            fit(censuses, measured, [other for other in censuses if other != name], device, variant).coefficients,
        )
        for name in censuses
    }


def interval(census: Census, device: Device, found: Fit, coverage: float = COVERAGE) -> tuple[float, float, float]:
    """Milliseconds, with the lower and upper end of the prediction interval of a regression in log space.

    Student's t with the fit's degrees of freedom; the graph's own error and the coefficients' are both in it.
    """
    middle = milliseconds(census, device, found.coefficients)
    slopes = np.array(gradient(census, device, found.free, found.coefficients))
    leverage = float(slopes @ np.linalg.pinv(np.array(found.information)) @ slopes)
    half = student.ppf((1 + coverage) / 2, found.freedom) * found.spread * math.sqrt(1 + leverage)
    return middle, middle * math.exp(-half), middle * math.exp(half)

"""Fit the coefficients of the cost model by least squares in log space, and estimate the error of its predictions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.optimize import least_squares

from pocketdit.export.common.census import Census
from pocketdit.latency.cost import Coefficients, milliseconds
from pocketdit.latency.devices import Device

_START = Coefficients(stream=2.0)
COVERAGE = 0.8
"""Probability with which a prediction interval contains the true latency."""


@dataclass(frozen=True)
class Variant:
    """A variant of the cost model.

    Attributes:
        title: Name in tables.
        free: Names of the fitted coefficients.
        start: Initial values of the fitted coefficients, and constant values of all others.
        latency: Function that predicts the latency of a graph in milliseconds from its census, the device and the
            coefficients.
    """

    title: str
    free: tuple[str, ...]
    start: Coefficients = _START
    latency: Callable[..., float] = milliseconds


@dataclass(frozen=True)
class Fit:
    """A fitted cost model. All errors are log(predicted / measured).

    Attributes:
        free: Names of the fitted coefficients.
        coefficients: All coefficients.
        residuals: Error for each graph that was used for the fit.
        left_out: Error for each of these graphs if the coefficients are fitted to all other graphs.
        scaling: For each other device with a published latency, the error of extrapolating to this device, in addition
            to the error for a similar graph on the calibrated device.
    """

    free: tuple[str, ...]
    coefficients: Coefficients
    residuals: tuple[float, ...]
    left_out: tuple[float, ...] = ()
    scaling: tuple[float, ...] = ()


def root_mean_square(values: Sequence[float]) -> float:
    """Return the root mean square of the values."""
    return math.sqrt(sum(value * value for value in values) / len(values))


def fit_coefficients(
    censuses: Mapping[str, Census],
    measured: Mapping[str, float],
    names: Sequence[str],
    device: Device,
    variant: Variant,
) -> Fit:
    """Find the free coefficients that minimize the squared log error on the graphs in ``names``.

    The result has no left-out errors; see ``leave_one_out``.
    """

    def coefficients(logs: Sequence[float]) -> Coefficients:
        return replace(variant.start, **{name: math.exp(value) for name, value in zip(variant.free, logs, strict=True)})

    def residuals(logs: Sequence[float]) -> list[float]:
        current = coefficients(logs)
        return [math.log(variant.latency(censuses[name], device, current) / measured[name]) for name in names]

    logs: Sequence[float] = [math.log(getattr(variant.start, name)) for name in variant.free]
    if logs:
        logs = least_squares(residuals, logs, diff_step=1e-4).x
    return Fit(variant.free, coefficients(logs), tuple(float(value) for value in residuals(logs)))


def leave_one_out(
    censuses: Mapping[str, Census], measured: Mapping[str, float], device: Device, variant: Variant
) -> dict[str, float]:
    """Predict the latency of each graph in milliseconds with coefficients that are fitted to all other graphs."""
    predictions = {}
    for name, census in censuses.items():
        others = [other for other in censuses if other != name]
        fit = fit_coefficients(censuses, measured, others, device, variant)
        predictions[name] = variant.latency(census, device, fit.coefficients)
    return predictions


def conformal_error(errors: Sequence[float], coverage: float = COVERAGE) -> float:
    """Return a bound that the next error does not exceed with a probability of at least ``coverage``.

    Of n + 1 exchangeable errors, the last error has each rank with the same probability. With probability k / (n + 1),
    it is therefore at most the k-th smallest of the other errors, whatever the distribution of the errors is (split
    conformal prediction, Vovk et al. 2005).

    Args:
        errors: Known errors. Their signs are ignored.
        coverage: Required probability.

    Returns:
        The bound on the absolute error, or infinity if there are too few known errors.
    """
    rank = math.ceil(coverage * (len(errors) + 1) - 1e-9)
    return sorted(map(abs, errors))[rank - 1] if rank <= len(errors) else math.inf


def prediction_interval(
    census: Census, device: Device, fit: Fit, coverage: float = COVERAGE
) -> tuple[float, float, float]:
    """Predict the latency of a graph in milliseconds, with a prediction interval that is based on the left-out errors.

    For a device on which the model is not calibrated, the interval also covers the error of the extrapolation, which is
    assumed to be independent of the error for the graph.

    Returns:
        The prediction, and the lower and upper ends of the interval.
    """
    middle = milliseconds(census, device, fit.coefficients)
    half = conformal_error(fit.left_out, coverage)
    if not device.calibrated:
        half = math.hypot(half, conformal_error(fit.scaling, coverage))
    return middle, middle * math.exp(-half), middle * math.exp(half)

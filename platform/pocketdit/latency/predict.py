"""Predict latencies with the calibrated cost model.

``python -m benchmarks.latency_calibration --save`` writes the coefficients to ``coefficients.json``.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pocketdit.export.common.census import Census
from pocketdit.files import write_atomically
from pocketdit.latency.cost import Coefficients, CostKind, milliseconds_by_kind
from pocketdit.latency.devices import Device
from pocketdit.latency.fit import COVERAGE, Fit, prediction_interval

FILE = Path(__file__).parent / "coefficients.json"
SPREAD = f"{COVERAGE:.0%} prediction interval"
"""Definition of ``Prediction.low`` and ``Prediction.high``."""


@dataclass(frozen=True)
class Prediction:
    """The predicted latency of one evaluation, in milliseconds.

    For devices on which the model was not calibrated, the prediction is extrapolated, and the interval is wider.

    Attributes:
        milliseconds: Predicted latency.
        low: Lower end of the prediction interval.
        high: Upper end of the prediction interval.
        by_kind: Contribution of each kind of cost.
    """

    milliseconds: float
    low: float
    high: float
    by_kind: dict[CostKind, float]


def save_fit(fit: Fit, path: Path = FILE) -> None:
    """Save a fit of the cost model for use by ``predict``."""
    write_atomically(path, json.dumps(dataclasses.asdict(fit), indent=1) + "\n")


@cache
def load_fit() -> Fit:
    """Load the saved fit of the cost model."""
    values = json.loads(FILE.read_text())
    return Fit(
        tuple(values["free"]),
        Coefficients(**values["coefficients"]),
        tuple(values["residuals"]),
        tuple(values["left_out"]),
        tuple(values["scaling"]),
    )


def predict(census: Census, device: Device) -> Prediction:
    """Use the saved fit to predict the latency of one evaluation of a graph on a device."""
    fit = load_fit()
    middle, low, high = prediction_interval(census, device, fit)
    return Prediction(middle, low, high, milliseconds_by_kind(census, device, fit.coefficients))

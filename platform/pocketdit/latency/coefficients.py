"""The fitted coefficients as they are stored, and predictions with them.

``coefficients.json`` is written by ``python -m pocketdit.latency.calibrate``.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pocketdit.export.census import Census
from pocketdit.files import write_atomically
from pocketdit.latency.cost import Coefficients, Kind, by_kind
from pocketdit.latency.devices import Device
from pocketdit.latency.fit import COVERAGE, Fit, interval

FILE = Path(__file__).parent / "coefficients.json"


@dataclass(frozen=True)
class Prediction:
    """Milliseconds of one evaluation, the ends of its 80 % interval, and milliseconds by class of operations.

    The interval is of the device that the model was calibrated on; on others scaling adds an error nobody measured.
    """

    milliseconds: float
    low: float
    high: float
    by_kind: dict[Kind, float]


def save(found: Fit, path: Path = FILE) -> None:
    write_atomically(path, json.dumps(dataclasses.asdict(found), indent=1) + "\n")


@cache
def stored() -> Fit:
    values = json.loads(FILE.read_text())
    return Fit(
        tuple(values["free"]),
        Coefficients(**values["coefficients"]),
        tuple(values["residuals"]),
        tuple(tuple(row) for row in values["information"]),
    )


def predict(census: Census, device: Device) -> Prediction:
    """One evaluation of the census's graph on a device, with the stored coefficients."""
    found = stored()
    middle, low, high = interval(census, device, found)
    return Prediction(middle, low, high, by_kind(census, device, found.coefficients))


COVERS = f"{COVERAGE:.0%} interval of the prediction"

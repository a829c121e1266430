"""Settings of the commands ``latency`` and ``recommend``, given as ``key=value`` on the command line."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pocketdit.bounds import Count, check_bounds
from pocketdit.config.image_size import ImageSize, parse_size
from pocketdit.latency.ladder import DEVICE

_AMOUNT = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)")
_MILLISECONDS = {"ms": 1.0, "s": 1000.0}
_BYTES = {"MB": 1e6, "GB": 1e9, "MiB": 2**20, "GiB": 2**30}


def parse_amount(value: str | float, key: str, units: dict[str, float], example: str) -> float:
    """Convert an amount such as "1.5GB" to the base unit.

    Args:
        value: Number followed by its unit.
        key: Key for error messages.
        units: Number of base units in each unit.
        example: Example of a valid amount for error messages.

    Raises:
        ValueError: The value is not a positive number with a known unit.
    """
    text = f"{value:g}" if isinstance(value, float) else value.strip()
    match = _AMOUNT.fullmatch(text)
    factors = {name.lower(): factor for name, factor in units.items()}
    if not match or match[2].lower() not in factors or float(match[1]) <= 0:
        raise ValueError(f"{key}={text}: must be a positive number with a unit, such as {example}")
    return float(match[1]) * factors[match[2].lower()]


@dataclass(frozen=True)
class Latency:
    """Settings of ``lightning latency``.

    Attributes:
        device: Device for which latencies are predicted. By default, this is the calibrated device. With ``measure``,
            the name under which the measurements are recorded, which defaults to the name that the device reports.
        measure: Where to measure instead of predicting: on this machine ("mac") or on a connected phone ("iphone").
        units: Core ML's compute units.
        iterations: Number of timed evaluations, after one warm-up evaluation.
        team: Apple development team that signs the app for running packages on an iPhone.
    """

    device: str = ""
    measure: Literal["mac", "iphone"] | None = None
    units: Literal["CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL"] = "CPU_AND_NE"
    iterations: Count = 20
    team: str = ""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.measure and self.device and not self.device.startswith(self.measure):
            raise ValueError(f"device={self.device} cannot be measured with measure={self.measure}; omit device")


@dataclass(frozen=True)
class Limits:
    """Upper limits on latency and memory, which are infinite by default.

    Attributes:
        step_ms: Latency of one sampling step in milliseconds.
        image_ms: Latency of one image in milliseconds.
        memory_bytes: Memory of the running transformer in bytes.
    """

    step_ms: float = math.inf
    image_ms: float = math.inf
    memory_bytes: float = math.inf


@dataclass(frozen=True)
class Recommend:
    """Settings of ``lightning recommend``. At least one of ``budget``, ``image`` and ``memory`` is required.

    Attributes:
        run: Name of the run. Runs that quantize it are compared as well.
        device: A known device, or a device for which measurements were recorded.
        budget: Limit on the latency of one sampling step, including guidance, such as 400ms.
        image: Limit on the latency of all sampling steps and the decoder, such as 2s.
        memory: Limit on the memory of the running transformer, such as 1.5GB.
        metric: Quality metric. By default, the preferred metric among those that cover the most widths.
        size: Image size HEIGHTxWIDTH in pixels. By default, the sampling size of the run.
        format: Format of the bundle: coreml, coreai or litert. By default, all formats for the device are compared.
        runs: Folder of all runs.
        exports: Folder of bundles.
        evaluations: Folder of evaluation results.
    """

    run: str
    device: str = DEVICE
    budget: str | float = ""  # numbers are accepted so that the error message can ask for a unit
    image: str | float = ""
    memory: str | float = ""
    metric: str = ""
    size: ImageSize = ""
    format: str = ""
    runs: Path = Path("runs")
    exports: Path = Path("exports")
    evaluations: Path = Path("evaluations")

    def __post_init__(self) -> None:
        if (self.budget, self.image, self.memory) == ("", "", ""):
            raise ValueError(
                "budget, image or memory: set at least one limit, such as budget=400ms, image=2s or memory=1.5GB"
            )
        _ = self.limits, self.image_size  # these raise ValueError if a value cannot be parsed

    @property
    def limits(self) -> Limits:
        """The limits in milliseconds and bytes."""
        return Limits(
            parse_amount(self.budget, "budget", _MILLISECONDS, "400ms") if self.budget != "" else math.inf,
            parse_amount(self.image, "image", _MILLISECONDS, "1.5s") if self.image != "" else math.inf,
            parse_amount(self.memory, "memory", _BYTES, "1.5GB") if self.memory != "" else math.inf,
        )

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Image height and width in pixels, or None for the sampling size of the run."""
        return parse_size(self.size) if self.size else None

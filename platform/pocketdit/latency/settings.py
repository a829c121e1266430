"""Settings of the verbs ``latency`` and ``recommend``, passed as ``key=value`` on the command line."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pocketdit.config.errors import InvalidValueError
from pocketdit.config.override import parse
from pocketdit.config.typed import convert
from pocketdit.errors import ConfigError
from pocketdit.export.common.settings import parse_size
from pocketdit.latency.ladder import DEVICE

T = TypeVar("T")
_AMOUNT = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)")
_MILLISECONDS = {"ms": 1.0, "s": 1000.0}
_BYTES = {"MB": 1e6, "GB": 1e9, "MiB": 2**20, "GiB": 2**30}


def parse_settings(overrides: Sequence[str], cls: type[T]) -> T:
    """Build settings from ``key=value`` arguments.

    Raises:
        ConfigError: An argument is not key=value, a key is unknown, or a value has the wrong type.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        parse(override).apply(values)
    try:
        return convert(values, cls, "")
    except InvalidValueError as error:
        raise ConfigError(f"command line: {error}") from None


def parse_amount(value: str | float, key: str, units: dict[str, float], example: str) -> float:
    """Parse an amount such as "1.5GB" into the base unit of ``units``.

    Raises:
        ValueError: The value is not a positive number with a known unit.
    """
    text = f"{value:g}" if isinstance(value, float) else value.strip()
    match = _AMOUNT.fullmatch(text)
    factors = {name.lower(): factor for name, factor in units.items()}
    if not match or match[2].lower() not in factors or float(match[1]) <= 0:
        raise ValueError(f"{key}={text}: must be a positive amount with its unit, such as {example}")
    return float(match[1]) * factors[match[2].lower()]


@dataclass(frozen=True)
class Latency:
    """Settings of ``lightning latency``.

    Attributes:
        device: Predictions: the device, by default the calibrated one. Measurements: the name under which they are
            recorded, by default the device's own name.
        measure: Measure on this machine ("mac") or on a connected phone ("iphone") instead of predicting.
        units: Core ML's compute units.
        iterations: Timed evaluations, after one warm-up evaluation.
        team: Apple development team, which signs the app that runs packages on an iPhone.
    """

    device: str = ""
    measure: Literal["mac", "iphone"] | None = None
    units: Literal["CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL"] = "CPU_AND_NE"
    iterations: int = 20
    team: str = ""

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError("iterations must be at least 1")
        if self.measure and self.device and not self.device.startswith(self.measure):
            raise ValueError(f"device={self.device}: cannot be measured with measure={self.measure}; omit device")


@dataclass(frozen=True)
class Limits:
    """Upper limits; infinite by default.

    Attributes:
        step_ms: Milliseconds per denoising step.
        image_ms: Milliseconds per image.
        memory_bytes: Memory of the running transformer in bytes.
    """

    step_ms: float = math.inf
    image_ms: float = math.inf
    memory_bytes: float = math.inf


@dataclass(frozen=True)
class Recommend:
    """Settings of ``lightning recommend``. At least one of ``budget``, ``image`` and ``memory`` is required.

    Attributes:
        run: The run.
        device: A known device, or one that measurements were recorded for.
        budget: Limit for one denoising step with guidance, such as 400ms.
        image: Limit for all steps and the decoder, such as 2s.
        memory: Limit for the running transformer, such as 1.5GB.
        metric: Metric of quality. Empty: the preferred one among those that the most widths were evaluated with.
        size: Image size HEIGHTxWIDTH in pixels. Empty: the run's sampling size.
        runs: Folder that contains all runs.
        exports: Folder that contains Core ML bundles.
        evaluations: Folder that contains evaluation results.
    """

    run: str
    device: str = DEVICE
    budget: str | float = ""  # a number is accepted here so that the error message can ask for its unit
    image: str | float = ""
    memory: str | float = ""
    metric: str = ""
    size: str = ""
    runs: Path = Path("runs")
    exports: Path = Path("exports")
    evaluations: Path = Path("evaluations")

    def __post_init__(self) -> None:
        if (self.budget, self.image, self.memory) == ("", "", ""):
            raise ValueError("set a limit: budget=400ms for a step, image=2s for an image, or memory=1.5GB")
        _ = self.limits, self.image_size  # both raise for a value that cannot be parsed

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
        """Height and width in pixels, or None for the run's sampling size."""
        return parse_size(self.size) if self.size else None

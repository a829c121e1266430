"""What the verbs ``latency`` and ``recommend`` can be told, as ``key=value`` words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pocketdit.config.errors import InvalidValue
from pocketdit.config.override import parse
from pocketdit.config.typed import convert
from pocketdit.errors import ConfigError
from pocketdit.latency.ladder import DEVICE

T = TypeVar("T")
_AMOUNT = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)")
_TIMES = {"ms": 1.0, "s": 1000.0}
_BYTES = {"MB": 1e6, "GB": 1e9, "MiB": 2**20, "GiB": 2**30}


def from_words(words: Sequence[str], cls: type[T]) -> T:
    """``ConfigError`` for a word that is not key=value, an unknown key or a value of another type."""
    values: dict[str, Any] = {}
    for word in words:
        parse(word).apply(values)
    try:
        return convert(values, cls, "")
    except InvalidValue as error:
        raise ConfigError(f"command line: {error}") from None


def amount(given: str | float, key: str, units: dict[str, float], example: str) -> float:
    """ "1.5GB" in the units' common one. ``ValueError`` naming the key for anything else, or for nothing at all."""
    text = f"{given:g}" if isinstance(given, float) else given.strip()
    found = _AMOUNT.fullmatch(text)
    factors = {name.lower(): factor for name, factor in units.items()}
    if not found or found[2].lower() not in factors or float(found[1]) <= 0:
        raise ValueError(f"{key}={text}: must be a positive amount with its unit, such as {example}")
    return float(found[1]) * factors[found[2].lower()]


@dataclass(frozen=True)
class Latency:
    """``device``: whose latency is predicted (empty: the calibrated one), or which one is measured (empty: as it calls
    itself). ``measure``: "mac" (this machine) or "iphone" (connected) instead of a prediction. ``units``: Core ML's
    compute units. ``iterations``: timed evaluations behind one that is not. ``team``: Apple development team, which
    signs the app that runs packages on an iPhone.
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
            raise ValueError(f"device={self.device}: measure={self.measure} measures no such device")


@dataclass(frozen=True)
class Recommend:
    """Limits, one at least. ``budget``: of one denoising step with its guidance, such as 400ms; the paper's latency is
    that. ``picture``: of all steps and the decoder, such as 2s. ``memory``: of the running transformer, such as 1.5GB.

    ``metric``: by which quality is judged; empty: the first of the benchmarks that most widths were evaluated on.
    ``size``: picture HEIGHTxWIDTH; empty: the run's own.
    """

    run: str
    device: str = DEVICE
    budget: str | float = ""  # a number lacks its unit, and is told so
    picture: str | float = ""
    memory: str | float = ""
    metric: str = ""
    size: str = ""
    runs: Path = Path("runs")
    exports: Path = Path("exports")
    evaluations: Path = Path("evaluations")

    def __post_init__(self) -> None:
        if (self.budget, self.picture, self.memory) == ("", "", ""):
            raise ValueError("give a budget: budget=400ms for a step, picture=2s for a picture, or memory=1.5GB")
        _ = self.limits  # says at once what cannot be read
        if self.size and not re.fullmatch(r"[1-9]\d*x[1-9]\d*", self.size):
            raise ValueError(f"size={self.size}: must be HEIGHTxWIDTH in pixels, for example 1024x1024")

    @property
    def limits(self) -> tuple[float, float, float]:
        """Milliseconds of a step, milliseconds of a picture, bytes; infinite where there is no limit."""
        infinite = float("inf")
        return (
            amount(self.budget, "budget", _TIMES, "400ms") if self.budget != "" else infinite,
            amount(self.picture, "picture", _TIMES, "1.5s") if self.picture != "" else infinite,
            amount(self.memory, "memory", _BYTES, "1.5GB") if self.memory != "" else infinite,
        )

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Height and width."""
        if not self.size:
            return None
        height, _, width = self.size.partition("x")
        return int(height), int(width)

"""The settings that every export target shares."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pocketdit.export.common.comparison import Tolerance
from pocketdit.names import is_plain_name

_SIZE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


def parse_size(text: str) -> tuple[int, int]:
    """Parse an image size HEIGHTxWIDTH. Raises ``ValueError`` for any other text."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"size={text}: must be HEIGHTxWIDTH in pixels, for example 1024x1024")
    return int(match[1]), int(match[2])


@dataclass(frozen=True, kw_only=True)
class BaseExport:
    """Which network is exported, and how closely the result must match PyTorch.

    Attributes:
        export: A name. The bundle is a folder in ``out`` whose name begins with it.
        run: The run to export. Null exports random weights for the network that the YAML ``experiment`` describes;
            the manifest then says so.
        experiment: A training YAML, only with ``run=null``.
        width: Width of the sub-network.
        size: Image size HEIGHTxWIDTH in pixels. Empty: the run's sampling size.
        precision: Numeric precision; see the target's class for what it applies to.
        times: Times in [0, 1] at which the exported network is compared with PyTorch.
        max_error: With float32, the largest allowed difference, relative to the largest output.
        min_snr: With float16, the smallest allowed signal-to-noise ratio in dB.
        seed: Seed of random weights and of the inputs for the comparison.
        out: Folder for bundles.
        runs: Folder that contains all runs.
    """

    in_bundle_name: ClassVar[tuple[str, ...]] = ()
    """Settings that appear in the bundle's name when they differ from their default."""

    export: str
    run: str | None = None
    experiment: Path | None = None
    width: float = 1.0
    size: str = ""
    precision: Literal["float16", "float32"]
    times: tuple[float, ...] = (0.9, 0.3)
    max_error: float
    min_snr: float = 40.0
    seed: int = 0
    out: Path
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        if not is_plain_name(self.export):
            raise ValueError(f"export={self.export!r}: must be a plain name, because it begins the name of a folder")
        if (self.run is None) == (self.experiment is None):
            raise ValueError("run: set either run=RUN, or run=null with experiment=FILE to export random weights")
        _ = self.image_size  # raises for a size that cannot be parsed
        if not self.times or not all(0 <= time <= 1 for time in self.times):
            raise ValueError("times: must be one or more numbers from 0 to 1")

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels, or None for the run's sampling size."""
        return parse_size(self.size) if self.size else None

    @property
    def tolerance(self) -> Tolerance:
        """The limit that applies to this precision."""
        if self.precision == "float32":
            return Tolerance(max_error=self.max_error)
        return Tolerance(min_snr=self.min_snr)

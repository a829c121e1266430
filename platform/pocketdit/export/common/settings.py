"""The settings that all export targets share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pocketdit.bounds import Between, CountOrZero, Error, Fraction, check_bounds
from pocketdit.config.image_size import ImageSize, parse_size
from pocketdit.export.common.comparison import Tolerance
from pocketdit.names import is_plain_name


@dataclass(frozen=True, kw_only=True)
class BaseExport:
    """Settings that select the network to export, and specify how closely the result must match PyTorch.

    Attributes:
        export: Name of the export. The name of the bundle's folder starts with it.
        run: Name of the run to export. If it is null, the network that ``experiment`` describes is exported with random
            weights, and the manifest contains a note about this.
        experiment: YAML file of a training experiment. Requires ``run=null``.
        width: Width of the sub-network.
        size: Image size HEIGHTxWIDTH in pixels. By default, the sampling size of the run.
        decoder: Run of the tiny decoder to export. If it is null, the decoder of the autoencoder is exported. If the
            network has random weights, no decoder is exported.
        text_encoders: Positions of the text encoders to export, starting from 0. If it is null, all are exported. The
            network works with any subset, because training drops the encoders independently of each other.
        precision: Numeric precision. What the precision applies to depends on the target.
        times: Times in [0, 1] at which the exported network is compared with PyTorch.
        max_error: Largest allowed difference in float32, relative to the largest output.
        min_snr: Smallest allowed signal-to-noise ratio in float16, in dB.
        seed: Seed of the random weights and of the inputs for the comparison.
        out: Folder in which the bundle's folder is created.
        runs: Folder of all runs.
    """

    in_bundle_name: ClassVar[tuple[str, ...]] = ("decoder", "text_encoders")
    """Settings that are part of the bundle's name if they differ from their defaults."""

    export: str
    run: str | None = None
    experiment: Path | None = None
    width: Fraction = 1.0
    size: ImageSize = ""
    decoder: str | None = None
    text_encoders: tuple[CountOrZero, ...] | None = None
    precision: Literal["float16", "float32"]
    times: tuple[Fraction, ...] = (0.9, 0.3)
    max_error: Error
    min_snr: Annotated[float, Between(-1000, 1000)] = 40.0
    seed: int = 0
    out: Path
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        if not is_plain_name(self.export):
            raise ValueError(
                f"export={self.export!r}: must be a plain name without slashes or a leading dot, because it becomes "
                "part of a folder name"
            )
        if (self.run is None) == (self.experiment is None):
            raise ValueError("run: set either run=RUN, or run=null with experiment=FILE to export random weights")
        _ = self.image_size  # raises ValueError if the size cannot be parsed
        check_bounds(self)
        if self.text_encoders is not None and sorted(set(self.text_encoders)) != list(self.text_encoders):
            raise ValueError("text_encoders: must be increasing positions, such as [0] or [0, 1]")
        if not self.times:
            raise ValueError("times: must be one or more numbers from 0 to 1")

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Image height and width in pixels, or None for the sampling size of the run."""
        return parse_size(self.size) if self.size else None

    @property
    def tolerance(self) -> Tolerance:
        """The tolerance for this precision."""
        if self.precision == "float32":
            return Tolerance(max_error=self.max_error)
        return Tolerance(min_snr=self.min_snr)

"""A YAML in ``experiments/export/`` with a section ``litert`` is one of these: what is exported, how it is timed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pocketdit.config import document
from pocketdit.export.settings import Export


@dataclass(frozen=True)
class LiteRT:
    """``threads`` of the runtime. ``passes``: timed on this CPU after the export; 0 is none.

    ``benchmark``: LiteRT's benchmark_model for the phone's processor; where given, the file is timed on the Android
    device that adb finds (``serial``: which one, where there are several), with ``gpu`` on its GPU as far as it goes.
    """

    threads: int = 1
    passes: int = 5
    benchmark: Path | None = None
    serial: str | None = None
    gpu: bool = False

    def __post_init__(self) -> None:
        if self.threads < 1 or self.passes < 0:
            raise ValueError("threads must be at least 1, passes 0 or more")
        if self.benchmark is None and (self.serial is not None or self.gpu):
            raise ValueError("serial and gpu are of an Android device: give benchmark, the path of benchmark_model")


@dataclass(frozen=True)
class LiteRTExport:
    """As ``Export`` has them, but ``precision`` is of the weights alone: arithmetic is the runtime's choice, and with
    float16 the file is half as large. ``max_error`` is asked of float32, ``min_snr`` of float16, at all ``times``.
    """

    export: str
    run: str | None = None
    experiment: Path | None = None
    width: float = 1.0
    size: str = ""
    precision: Literal["float16", "float32"] = "float32"
    times: tuple[float, ...] = (0.9, 0.3)
    max_error: float = 1e-4
    min_snr: float = 40.0
    litert: LiteRT = field(default_factory=LiteRT)
    seed: int = 0
    out: Path = Path("exports/litert")  # below Core ML's bundles, which are looked for in exports/ itself
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        self.source()  # its checks are these

    def source(self) -> Export:
        """Which network is meant, for ``load_subject``."""
        return Export(
            export=self.export, run=self.run, experiment=self.experiment, width=self.width, size=self.size,
            precision=self.precision, times=self.times, seed=self.seed, out=self.out, runs=self.runs,
        )  # fmt: skip


def kind_of(path: Path) -> type[Export] | type[LiteRTExport]:
    """Which target a YAML is for. ``ConfigError`` where it is no YAML."""
    return LiteRTExport if "litert" in document.read(path).values else Export

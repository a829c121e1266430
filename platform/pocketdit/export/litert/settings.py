"""Settings of an export to LiteRT."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pocketdit.export.common.settings import BaseExport


@dataclass(frozen=True)
class LiteRTRuntime:
    """How the exported file is run and timed.

    Attributes:
        threads: Number of threads for the runtime.
        passes: Timed passes on this CPU after the export; 0 skips the measurement.
        benchmark: Path of LiteRT's ``benchmark_model`` for the phone's processor. If set, the file is also timed on
            the Android device that adb finds.
        serial: Serial number of the Android device, needed if several are connected.
        gpu: Use the Android device's GPU for the operations that it supports.
    """

    threads: int = 1
    passes: int = 5
    benchmark: Path | None = None
    serial: str | None = None
    gpu: bool = False

    def __post_init__(self) -> None:
        if self.threads < 1 or self.passes < 0:
            raise ValueError("threads must be at least 1 and passes at least 0")
        if self.benchmark is None and (self.serial is not None or self.gpu):
            raise ValueError("serial and gpu apply to an Android device; set benchmark to the path of benchmark_model")


@dataclass(frozen=True, kw_only=True)
class LiteRTExport(BaseExport):
    """One width of a network as a .tflite file.

    ``precision`` applies to the weights only; the runtime chooses the precision of arithmetic. float16 halves the file.

    Attributes:
        kind: The tag of this target.
        litert: How the exported file is run and timed.
    """

    kind: Literal["litert"] = "litert"
    precision: Literal["float16", "float32"] = "float32"
    max_error: float = 1e-4
    out: Path = Path("exports/litert")  # a level below the Core ML bundles, which are searched for in exports/
    litert: LiteRTRuntime = field(default_factory=LiteRTRuntime)

"""Settings of an export to LiteRT."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pocketdit.bounds import Between, CountOrZero, Error, check_bounds
from pocketdit.export.common.settings import BaseExport


@dataclass(frozen=True)
class LiteRTRuntime:
    """Settings for running and timing the exported file.

    Attributes:
        threads: Number of threads for the runtime.
        passes: Number of timed passes on this CPU after the export; 0 skips the measurement.
        benchmark: Path of LiteRT's ``benchmark_model`` for the processor of the phone. If it is set, the file is also
            timed on the Android device that is connected over adb.
        serial: Serial number of the Android device, which is required if several devices are connected.
        gpu: Whether to run supported operations on the GPU of the Android device.
    """

    threads: Annotated[int, Between(1, 1024)] = 1
    passes: CountOrZero = 5
    benchmark: Path | None = None
    serial: str | None = None
    gpu: bool = False

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.benchmark is None and (self.serial is not None or self.gpu):
            raise ValueError("serial and gpu require an Android device; set benchmark to the path of benchmark_model")


@dataclass(frozen=True, kw_only=True)
class LiteRTExport(BaseExport):
    """Settings for exporting one width of a network as .tflite files.

    ``precision`` applies only to the weights. With float16, the files are half as large. The runtime chooses the
    precision of arithmetic.

    Attributes:
        kind: Name of this target.
        litert: Settings for running and timing the exported file.
    """

    kind: Literal["litert"] = "litert"
    precision: Literal["float16", "float32"] = "float32"
    max_error: Error = 1e-4
    out: Path = Path("exports/litert")  # not exports/, which is searched for Core ML and Core AI bundles
    litert: LiteRTRuntime = field(default_factory=LiteRTRuntime)

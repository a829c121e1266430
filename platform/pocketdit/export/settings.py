"""One YAML in ``experiments/export/`` is one of these: what is exported, in which form, and what it may cost."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class Budget:
    """Upper limits of the transformer's graph, checked after the export; null is no limit.

    ``operations``: that compute or move something. ``tensor_mb``: the largest tensor between operations.
    ``gflops`` of one evaluation. ``weight_mb``: as stored. ``traffic_mb``: activations that operations read and write.
    ``elsewhere``: operations that leave the Neural Engine. MB are 10^6 bytes.
    """

    operations: int | None = None
    tensor_mb: float | None = None
    gflops: float | None = None
    weight_mb: float | None = None
    traffic_mb: float | None = None
    elsewhere: int | None = None


@dataclass(frozen=True)
class Export:
    """``export``: a name; the bundle's folder under ``out`` begins with it. ``run``: whose weights; null takes random
    weights for the network of the YAML ``experiment`` (the manifest says so).

    ``width``: of the sub-network. ``size``: picture HEIGHTxWIDTH in pixels; empty is the run's own. ``batch``: 2 where
    guidance evaluates text and no text at once. ``blockwise``: ASSA's blocks one after another or side by side.
    ``query_chunk``: queries at a time in attention over all keys, 0 for all. ``decoder``: a run whose tiny
    decoder goes along; null is the autoencoder's own, or none with random weights.
    ``verify``: compare the packages with the training form, at ``times``; it fails above ``max_error`` (float32,
    relative to the largest output) or below ``min_snr`` (float16, dB). ``seed``: of random weights and test inputs.
    """

    export: str
    run: str | None = None
    experiment: Path | None = None
    width: float = 1.0
    size: str = ""
    precision: Literal["float16", "float32"] = "float16"
    target: Literal["iOS17", "iOS18"] = "iOS17"
    batch: int = 1
    blockwise: Literal["loop", "batched"] = "batched"
    query_chunk: int = 1024
    decoder: str | None = None
    budget: Budget = field(default_factory=Budget)
    verify: bool = True
    times: tuple[float, ...] = (0.9, 0.3)
    max_error: float = 1e-5
    min_snr: float = 40.0
    seed: int = 0
    out: Path = Path("exports")
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        if not self.export or "/" in self.export or self.export.startswith("."):
            raise ValueError("export must be a plain name: the bundle's folder begins with it")
        if (self.run is None) == (self.experiment is None):
            raise ValueError("give run=RUN, or experiment=FILE with run=null for random weights")
        if self.size and not SIZE.fullmatch(self.size):
            raise ValueError(f"size {self.size!r} must be HEIGHTxWIDTH in pixels, for example 1024x1024")
        if self.batch < 1 or self.query_chunk < 0:
            raise ValueError("batch must be at least 1, query_chunk 0 or more")
        if not self.times or not all(0 <= time <= 1 for time in self.times):
            raise ValueError("times must be numbers from 0 to 1, one at least")

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Height and width; None for the run's own."""
        found = SIZE.fullmatch(self.size)
        return (int(found[1]), int(found[2])) if found else None

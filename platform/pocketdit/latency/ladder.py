"""Measured latencies from the paper's Fig. 3, to which the cost model is fitted, and censuses of exported graphs."""

from pathlib import Path

from pocketdit.errors import RunError
from pocketdit.export.common.census import Census

FOLDER = Path(__file__).parent / "ladder"
DEVICE = "iphone16promax"
# Milliseconds per evaluation at 1024x1024 pixels on an iPhone 16 Pro Max (arXiv 2601.08303, Fig. 3). The U-Net of
# SnapGen (274 ms) is not included, because it has a different architecture and its graph is not published.
MEASURED = {"a": 2000.0, "b": 550.0, "c": 293.0, "d": 360.0}
SMALLEST_FLOPS = 2.7e12  # FLOPs of (C), the smallest graph in the fit
TITLES = {
    "a": "(A) plain DiT", "b": "(B) three stages", "c": "(C) with ASSA", "d": "(D) enhanced",
    "tiny": "tiny (0.375x)", "small": "small (0.5x)", "full": "full (1x)",
}  # fmt: skip


def load_census(name: str) -> Census:
    """Load the census of one of the graphs in ``TITLES``.

    The graphs were exported in fp16 for images of 1024x1024 pixels. Equal operations are merged. (A) has 40 layers. The
    three levels of (B) and (C) have 8, 20 and 10 layers, and the levels of (D) have 9, 11 and 10. All layers have 1024
    channels. These depths agree better with the measured latencies than the depths in
    ``experiments/paper/ladder_*.yaml`` (see ``benchmarks.latency_readings``).

    Raises:
        RunError: The census cannot be read.
    """
    file = FOLDER / f"{name}.json"
    try:
        return Census.from_json(file.read_text())
    except OSError as error:
        raise RunError(f"{file}: the census of {name} cannot be read ({error.strerror})") from error

"""The paper's ladder: the measurements that the cost model is fitted to, with censuses of our exported graphs."""

from pathlib import Path

from pocketdit.errors import RunError
from pocketdit.export.common.census import Census

FOLDER = Path(__file__).parent / "ladder"
DEVICE = "iphone16promax"
# Fig. 3 (arXiv 2601.08303): milliseconds of one evaluation at 1024x1024 pixels on an iPhone 16 Pro Max. SnapGen's U-Net
# (274 ms) is not included: it is a different architecture, and its graph is not published.
MEASURED = {"a": 2000.0, "b": 550.0, "c": 293.0, "d": 360.0}
SMALLEST = 2.7e12  # FLOP of (C), the smallest graph of the fit
TITLES = {
    "a": "(A) plain DiT", "b": "(B) three stages", "c": "(C) with ASSA", "d": "(D) enhanced",
    "tiny": "tiny (0.375x)", "small": "small (0.5x)", "full": "full (1x)",
}  # fmt: skip


def load_census(name: str) -> Census:
    """Load the census of a rung of the ladder, or of tiny, small or full.

    The graphs were exported at 1024x1024 in fp16; equal operations are merged.
    """
    file = FOLDER / f"{name}.json"
    try:
        return Census.from_json(file.read_text())
    except OSError as error:
        raise RunError(f"{file}: the census of {name} cannot be read ({error.strerror})") from error

"""Draw the diagrams of docs/concepts.md, with masks and shapes from the network's code and settings from experiments.

python -m docs.drawings [--out docs/images]

The output is deterministic. The description of each SVG contains the numbers that the drawing shows, as JSON.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from docs.drawings.assa import assa_data, draw_assa
from docs.drawings.backbone import backbone_data, draw_backbone
from docs.drawings.experiments import ROOT, Data
from docs.drawings.k_dmd import draw_k_dmd, k_dmd_data
from docs.drawings.slicing import draw_slicing, slicing_data

DRAWINGS: dict[str, tuple[Callable[[], Data], Callable[[Data], Figure]]] = {
    "assa_masks": (assa_data, draw_assa),
    "elastic_slicing": (slicing_data, draw_slicing),
    "k_dmd": (k_dmd_data, draw_k_dmd),
    "backbone": (backbone_data, draw_backbone),
}


def write(out: Path) -> None:
    """Write all drawings to a folder."""
    out.mkdir(parents=True, exist_ok=True)
    for name, (data_of, draw) in DRAWINGS.items():
        data = data_of()
        with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
            draw(data).savefig(out / f"{name}.svg", metadata={"Date": None, "Description": json.dumps(data)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, and write the drawings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", metavar="FOLDER")
    write(parser.parse_args(arguments).out)


if __name__ == "__main__":
    main()

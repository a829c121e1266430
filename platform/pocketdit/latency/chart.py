"""The picture of the calibration: the paper's figures beside the model's, and where the model says the time goes."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

from pocketdit.export.census import Census
from pocketdit.files import write_atomically
from pocketdit.latency.cost import KINDS, by_kind
from pocketdit.latency.devices import Device
from pocketdit.latency.fit import COVERAGE, Fit, interval

# Colours that colour-blind readers tell apart (Okabe and Ito).
_COLORS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#999999")


def draw(
    path: Path,
    device: Device,
    found: Fit,
    ladder: Mapping[str, Census],
    measured: Mapping[str, float],
    without: Mapping[str, float],
    others: Mapping[str, Census],
) -> None:
    """Writes a PNG: left, milliseconds by graph; right, the share of each class of operations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    graphs = {**ladder, **others}
    places = range(len(graphs))
    intervals = [interval(census, device, found) for census in graphs.values()]
    left.errorbar(
        places,
        [middle for middle, _, _ in intervals],
        [[m - low for m, low, _ in intervals], [high - m for m, _, high in intervals]],
        fmt="s", color=_COLORS[0], capsize=4, label=f"predicted, {COVERAGE:.0%} interval",
    )  # fmt: skip
    ends = range(len(ladder))
    left.plot([p - 0.15 for p in ends], list(without.values()), "o", mfc="none", color=_COLORS[2],
              label="predicted without the graph itself")  # fmt: skip
    left.plot([p + 0.15 for p in ends], list(measured.values()), "k*", markersize=11, label="measured (paper, Fig. 3)")
    left.set_yscale("log")
    left.set_yticks([100, 200, 500, 1000, 2000], ["100", "200", "500", "1000", "2000"])
    left.minorticks_off()
    left.set_ylabel("ms for one evaluation at 1024x1024")
    left.set_title(device.title)
    left.grid(axis="y", alpha=0.3)
    left.legend(frameon=False, fontsize=9)
    base = [0.0] * len(graphs)
    times = [by_kind(census, device, found.coefficients) for census in graphs.values()]
    for kind, color in zip(KINDS, _COLORS, strict=True):
        shares = [100 * time[kind] / sum(time.values()) for time in times]
        right.bar(places, shares, bottom=base, color=color, label=kind, width=0.7)
        base = [below + share for below, share in zip(base, shares, strict=True)]
    right.set_ylabel("share of the predicted time (%)")
    right.set_title("where the model says the time goes")
    right.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    for axis in (left, right):
        axis.set_xticks(places, [fill(title, 10) for title in graphs], fontsize=9)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
    pyplot.close(figure)

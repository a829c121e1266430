"""Fit the latency cost model to the paper's ladder, and show how far it can be trusted.

Prints every variant of the model with its leave-one-out error, then the coefficient, fit and predictions of the chosen
variant, and plots them. This takes a few seconds.

    python -m benchmarks.latency_calibration [--out docs/images/latency.png] [--save]

No model that adds up operations can fit both (A) and (B). (B) has 18 of (A)'s 40 layers at full resolution, so (A) can
take at most 40 / 18 = 2.2 times as long as (B), but in the paper it takes 3.6 times as long. The model leaves out what
makes (A) slower than the sum of its operations, such as paging, heat, and operations that do not run on the Neural
Engine. Its prediction intervals reflect that.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import Any

from tabulate import tabulate

from pocketdit.export.common.census import Census
from pocketdit.files import write_atomically
from pocketdit.latency.cost import COST_KINDS, Coefficients, milliseconds_by_kind
from pocketdit.latency.devices import Device, find_device
from pocketdit.latency.fit import (
    COVERAGE,
    Fit,
    Variant,
    fit_coefficients,
    leave_one_out,
    prediction_interval,
    root_mean_square,
)
from pocketdit.latency.ladder import DEVICE, MEASURED, TITLES, load_census
from pocketdit.latency.predict import save_fit

# Fits one coefficient and takes the others from published figures. Of the other variants, only a working set of 4 MiB
# has a leave-one-out error as small as this one's (0.34).
CHOSEN = Variant("streamed bandwidth (chosen)", ("stream",))
OTHERS = (
    Variant("arithmetic only", ("compute",), Coefficients(stream=1e9)),
    Variant("all traffic streamed", ("stream",), Coefficients(stream=2.0, on_chip=0.0)),
    Variant("three quarters of elementwise operations fused", ("stream",), Coefficients(stream=2.0, elementwise=0.25)),
    Variant("working set 1 MiB", ("stream",), Coefficients(stream=2.0, on_chip=2**20)),
    Variant("working set 4 MiB", ("stream",), Coefficients(stream=2.0, on_chip=2**22)),
    Variant("bandwidth and share of peak compute", ("stream", "compute")),
    Variant("the same, three quarters fused", ("stream", "compute"), Coefficients(stream=2.0, elementwise=0.25)),
    Variant("bandwidth and overhead per operation", ("stream", "overhead")),
)
BITS = 4.3  # supplement C: average bits per weight of the full network
# Colors that color-blind readers can tell apart (Okabe and Ito).
_COLORS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#999999")


@dataclass(frozen=True)
class Calibration:
    """The chosen variant, fitted to the paper's ladder.

    Attributes:
        device: The device of the measurements.
        fit: The fit to all rungs.
        ladder: Census of every rung, by name.
        left_out: Latency of every rung in milliseconds, as predicted by a fit to the others, by name.
        others: Censuses of other graphs, by title.
    """

    device: Device
    fit: Fit
    ladder: Mapping[str, Census]
    left_out: Mapping[str, float]
    others: Mapping[str, Census]


def calibrate() -> Calibration:
    """Fit the chosen variant to the paper's ladder."""
    device = find_device(DEVICE)
    ladder = {name: load_census(name) for name in MEASURED}
    fit = fit_coefficients(ladder, MEASURED, list(ladder), device, CHOSEN)
    others = {TITLES[name]: load_census(name) for name in ("tiny", "small", "full")}
    others[f"full at {BITS} bits"] = with_palettes(others.pop(TITLES["full"]), BITS)
    return Calibration(device, fit, ladder, leave_one_out(ladder, MEASURED, device, CHOSEN), others)


def with_palettes(census: Census, bits: float) -> Census:
    """Return the same graph with the convolutions' weights stored as palettes of ``bits`` per weight (supplement C)."""
    operations = tuple(
        replace(o, weight_bytes=round(o.weight_bytes * bits / o.weight_bits), weight_bits=bits)
        if o.kind in ("conv", "conv_transpose") and o.weight_bits
        else o
        for o in census.operations
    )
    saved = census.weight_bytes - Census(operations).weight_bytes
    return Census(operations, census.stored_bytes - saved)


def variants_table(ladder: Mapping[str, Census], device: Device) -> str:
    """Tabulate the coefficients and errors of all variants."""
    rows = []
    for variant in (CHOSEN, *OTHERS):
        fit = fit_coefficients(ladder, MEASURED, list(ladder), device, variant)
        left_out = leave_one_out(ladder, MEASURED, device, variant)
        errors = [math.log(left_out[name] / MEASURED[name]) for name in ladder]
        c = fit.coefficients
        rows.append([
            variant.title, f"{c.stream:.2f}" if c.stream < 1e6 else "free", f"{c.compute:.2f}",
            f"{c.overhead * 1e6:.2f} us", f"{root_mean_square(fit.residuals):.2f}", f"{root_mean_square(errors):.2f}",
            "impossible: above peak compute" if c.compute > 1 else "",
        ])  # fmt: skip
    headers = ["model", "stream", "compute", "overhead", "fit", "left out", ""]
    note = (
        "fit, left out: RMS of log(predicted / measured), with the graph itself included in the fit or left out of it"
    )
    return f"{_right_aligned(rows, headers, left=(0, 6))}\n{note}"


def ladder_table(calibration: Calibration) -> str:
    """Tabulate the paper's and the model's latency of every rung."""
    rows = []
    for name, residual in zip(calibration.ladder, calibration.fit.residuals, strict=True):
        paper, left_out = MEASURED[name], calibration.left_out[name]
        rows.append([
            TITLES[name], f"{paper:.0f} ms", f"{paper * math.exp(residual):.0f} ms", f"{left_out:.0f} ms",
            f"{left_out / paper - 1:+.0%}",
        ])  # fmt: skip
    return _right_aligned(rows, ["ladder", "paper", "fitted", "left out", "error"])


def predictions_table(calibration: Calibration) -> str:
    """Tabulate the predictions for the other graphs."""
    rows = []
    for title, census in calibration.others.items():
        middle, low, high = prediction_interval(census, calibration.device, calibration.fit)
        rows.append([title, f"{middle:.0f} ms", f"{low:.0f} to {high:.0f} ms"])
    return _right_aligned(rows, ["graph", "predicted per step", f"{COVERAGE:.0%} interval"])


def _right_aligned(rows: list[list[str]], headers: list[str], left: tuple[int, ...] = (0,)) -> str:
    alignment = ["left" if i in left else "right" for i in range(len(headers))]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=alignment)


def plot(path: Path, calibration: Calibration) -> None:
    """Plot the latency of every graph in milliseconds, and the share of each kind of cost, to a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    graphs = {**{TITLES[name]: census for name, census in calibration.ladder.items()}, **calibration.others}
    _plot_milliseconds(left, calibration, graphs)
    _plot_shares(right, calibration, graphs)
    for axis in (left, right):
        axis.set_xticks(range(len(graphs)), [fill(title, 10) for title in graphs], fontsize=9)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
    pyplot.close(figure)


def _plot_milliseconds(axis: Any, calibration: Calibration, graphs: Mapping[str, Census]) -> None:
    intervals = [prediction_interval(census, calibration.device, calibration.fit) for census in graphs.values()]
    axis.errorbar(
        range(len(graphs)),
        [middle for middle, _, _ in intervals],
        [[m - low for m, low, _ in intervals], [high - m for m, _, high in intervals]],
        fmt="s", color=_COLORS[0], capsize=4, label=f"predicted, {COVERAGE:.0%} interval",
    )  # fmt: skip
    rungs = range(len(calibration.ladder))
    left_out = list(calibration.left_out.values())
    measured = [MEASURED[name] for name in calibration.ladder]
    axis.plot([x - 0.15 for x in rungs], left_out, "o", mfc="none", color=_COLORS[2],
              label="predicted, with the graph left out of the fit")  # fmt: skip
    axis.plot([x + 0.15 for x in rungs], measured, "k*", markersize=11, label="measured (paper, Fig. 3)")
    axis.set_yscale("log")
    axis.set_yticks([100, 200, 500, 1000, 2000], ["100", "200", "500", "1000", "2000"])
    axis.minorticks_off()
    axis.set_ylabel("ms per sampling step at 1024x1024")
    axis.set_title(calibration.device.title)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False, fontsize=9)


def _plot_shares(axis: Any, calibration: Calibration, graphs: Mapping[str, Census]) -> None:
    bottom = [0.0] * len(graphs)
    coefficients = calibration.fit.coefficients
    times = [milliseconds_by_kind(census, calibration.device, coefficients) for census in graphs.values()]
    for kind, color in zip(COST_KINDS, _COLORS, strict=True):
        shares = [100 * time[kind] / sum(time.values()) for time in times]
        axis.bar(range(len(graphs)), shares, bottom=bottom, color=color, label=kind, width=0.7)
        bottom = [below + share for below, share in zip(bottom, shares, strict=True)]
    axis.set_ylabel("share of predicted time (%)")
    axis.set_title("Predicted time by kind of cost")
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables and save the plot. With ``--save``, also save the fit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path("docs/images/latency.png"), help="PNG file of the plot (default: %(default)s)"
    )
    parser.add_argument("--save", action="store_true", help="save the fit that lightning latency uses")
    args = parser.parse_args(arguments)
    calibration = calibrate()
    device, stream = calibration.device, calibration.fit.coefficients.stream
    print(f"{device.title}; measured in the paper's Fig. 3\n")
    print(variants_table(calibration.ladder, device), end="\n\n")
    print(f"stream {stream:.3f}: {stream * device.memory / 1e9:.0f} GB/s\n")
    print(ladder_table(calibration), end="\n\n")
    print(predictions_table(calibration))
    plot(args.out, calibration)
    print(f"\nplot: {args.out}")
    if args.save:
        save_fit(calibration.fit)


if __name__ == "__main__":
    main()

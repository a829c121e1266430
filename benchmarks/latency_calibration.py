"""Fit the latency cost model to the paper's ladder, and show how far it can be trusted.

Prints the errors of all variants of the model, the predictions of the chosen variant for the ladder, for other
published latencies and for graphs that have not been measured, and how often its prediction intervals contain the
latency in a simulation. Also plots the predictions. This takes about ten seconds.

    python -m benchmarks.latency_calibration [--out docs/images/latency.png] [--save]

No model that adds up the times of operations can fit both (A) and (B). At full resolution, (A) has 40 layers and (B)
has 18, so such a model predicts that (A) takes at most 40 / 18 = 2.2 times as long as (B). In the paper, it takes 3.6
times as long. ``latency_variants`` lists the variants that were tried. The width of the prediction intervals is derived
from the errors for graphs that were left out of the fit.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks.latency_coverage import ERRORS, Curves, simulate
from benchmarks.latency_figures import ON_PHONE, OTHER_DEVICES, Figure, load_graphs
from benchmarks.latency_variants import CHOSEN, OTHERS
from pocketdit.export.common.census import Census
from pocketdit.files import write_atomically
from pocketdit.latency.cost import COST_KINDS, milliseconds, milliseconds_by_kind
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
from pocketdit.latency.palettes import with_palettes
from pocketdit.latency.predict import save_fit

BITS = 4.3  # supplement C: average bits per weight of the full network
# Colors that color-blind readers can tell apart (Okabe and Ito).
_COLORS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#999999")


@dataclass(frozen=True)
class Calibration:
    """The chosen variant, fitted to the paper's ladder.

    Attributes:
        device: The device on which the ladder was measured.
        fit: The fit to all rungs.
        ladder: Census of each rung.
        left_out: Latency of each rung in milliseconds, as predicted by a fit to the other rungs.
        others: Censuses of other graphs, keyed by title.
        held_out: Censuses of the graphs whose published latencies are not in the fit, keyed by name.
    """

    device: Device
    fit: Fit
    ladder: Mapping[str, Census]
    left_out: Mapping[str, float]
    others: Mapping[str, Census]
    held_out: Mapping[str, Census]


def calibrate() -> Calibration:
    """Fit the chosen variant to the paper's ladder, and derive the errors of its predictions."""
    device = find_device(DEVICE)
    ladder = {name: load_census(name) for name in MEASURED}
    held_out = {**load_graphs(), "small": load_census("small")}
    left_out = leave_one_out(ladder, MEASURED, device, CHOSEN)
    fit = fit_coefficients(ladder, MEASURED, list(ladder), device, CHOSEN)
    errors = tuple(math.log(left_out[name] / MEASURED[name]) for name in ladder)
    fit = replace(fit, left_out=errors, scaling=scaling_errors(fit, held_out))
    others = {TITLES[name]: load_census(name) for name in ("tiny", "small", "full")}
    others[f"full at {BITS} bits"] = with_palettes(others.pop(TITLES["full"]), BITS)
    return Calibration(device, fit, ladder, left_out, others, held_out)


def held_out_error(figure: Figure, fit: Fit, censuses: Mapping[str, Census], variant: Variant = CHOSEN) -> float:
    """Return log(predicted / measured) for a published latency that the model is not fitted to."""
    predicted = variant.latency(censuses[figure.graph], find_device(figure.device), fit.coefficients)
    return math.log(predicted / figure.milliseconds)


def scaling_errors(fit: Fit, censuses: Mapping[str, Census]) -> tuple[float, ...]:
    """Return the log error for each other device minus the log error for U-Nets on the calibrated device."""
    snapgen = next(figure for figure in ON_PHONE if figure.graph == "snapgen")
    for_unets = held_out_error(snapgen, fit, censuses)
    return tuple(held_out_error(figure, fit, censuses) - for_unets for figure in OTHER_DEVICES)


def variants_table(calibration: Calibration) -> str:
    """Tabulate the coefficients and errors of all variants."""
    ladder, device = calibration.ladder, calibration.device
    rows = []
    for variant in (CHOSEN, *OTHERS):
        fit = fit_coefficients(ladder, MEASURED, list(ladder), device, variant)
        left_out = leave_one_out(ladder, MEASURED, device, variant)
        errors = [math.log(left_out[name] / MEASURED[name]) for name in ladder]
        held_out = [held_out_error(figure, fit, calibration.held_out, variant) for figure in ON_PHONE]
        values = ", ".join(f"{name} {getattr(fit.coefficients, name):.3g}" for name in variant.free)
        sets = (fit.residuals, errors, held_out, errors + held_out)
        rows.append([variant.title, values, *(f"{root_mean_square(values):.2f}" for values in sets)])
    note = (
        "RMS of log(predicted / measured). fit: for rungs in the fit; left out: for rungs left out of the fit; "
        "held out: for the small model,\nthe decoder and the U-Net, which are never in the fit; both: left out and "
        "held out together"
    )
    headers = ["model", "fitted", "fit", "left out", "held out", "both"]
    return f"{_right_aligned(rows, headers, left=(0, 1))}\n{note}"


def held_out_table(calibration: Calibration) -> str:
    """Tabulate the published latencies that the model is not fitted to."""
    rows = []
    for figure in (*ON_PHONE, *OTHER_DEVICES):
        device = find_device(figure.device)
        middle, low, high = prediction_interval(calibration.held_out[figure.graph], device, calibration.fit)
        rows.append([
            figure.title, device.title, f"{figure.milliseconds:.0f} ms", f"{middle:.0f} ms",
            f"{middle / figure.milliseconds - 1:+.0%}", f"{low:.0f} to {high:.0f} ms",
            "yes" if low <= figure.milliseconds <= high else "no",
        ])  # fmt: skip
    headers = ["held out", "device", "published", "predicted", "error", f"{COVERAGE:.0%} interval", "inside"]
    return _right_aligned(rows, headers, left=(0, 1))


def coverage_table(calibration: Calibration, draws: int) -> str:
    """Tabulate how often, in a simulation, intervals contain the latency of a graph that is not in the fit."""
    logs = np.linspace(math.log(0.5), math.log(8.0), 200)
    graphs = [*calibration.ladder.values(), calibration.held_out["small"]]
    values = np.array([
        [
            math.log(milliseconds(graph, calibration.device, replace(CHOSEN.start, stream=math.exp(log))))
            for graph in graphs
        ]
        for log in logs
    ])  # fmt: skip
    rows = []
    for name, errors in ERRORS.items():
        coverage = simulate(Curves(logs, values), errors, draws)
        rows.append([name, f"{coverage.regression:.0%}", f"{coverage.left_out:.0%}"])
    headers = ["simulated errors", "interval from residuals (previous)", "interval from left-out errors"]
    note = f"share of {draws} draws in which the interval contains a fifth graph's latency"
    return f"{_right_aligned(rows, headers)}\n{note}"


def ladder_table(calibration: Calibration) -> str:
    """Tabulate the published and the predicted latency of each rung."""
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


def _right_aligned(rows: list[list[Any]], headers: list[str], left: tuple[int, ...] = (0,)) -> str:
    alignment = ["left" if i in left else "right" for i in range(len(headers))]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=alignment)


def plot(path: Path, calibration: Calibration) -> None:
    """Plot each graph's latency in milliseconds and the share of each kind of cost, and save the plot as a PNG file."""
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
    parser.add_argument("--draws", type=int, default=4000, help="number of simulations (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help="save the fit that lightning latency uses")
    args = parser.parse_args(arguments)
    calibration = calibrate()
    device, stream = calibration.device, calibration.fit.coefficients.stream
    print(f"{device.title}; measured in the paper's Fig. 3\n")
    print(variants_table(calibration), end="\n\n")
    bandwidth = stream * device.memory / 1e9
    print(f"bandwidth of streamed traffic: {bandwidth:.0f} GB/s, {stream:.3f} times the nominal memory bandwidth\n")
    print(ladder_table(calibration), end="\n\n")
    print(held_out_table(calibration), end="\n\n")
    print(predictions_table(calibration), end="\n\n")
    print(coverage_table(calibration, args.draws))
    plot(args.out, calibration)
    print(f"\nplot: {args.out}")
    if args.save:
        save_fit(calibration.fit)


if __name__ == "__main__":
    main()

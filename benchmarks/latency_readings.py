"""How the latency model's errors depend on what the paper leaves open about its ladder.

    python -m benchmarks.latency_readings

The paper does not say how many layers its ladder has, how wide its heads are, or whether its attention processes the
queries in chunks. This module traces the ladder for other readings, fits the model to each of them, and prints the
errors. It takes about three minutes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from benchmarks.latency_figures import ON_PHONE, trace_graphs
from benchmarks.latency_variants import CHOSEN
from pocketdit.backbones.spec import DiTSpec
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.export.common.census import Census
from pocketdit.latency.devices import find_device
from pocketdit.latency.fit import fit_coefficients, leave_one_out, root_mean_square
from pocketdit.latency.ladder import DEVICE, MEASURED, TITLES, load_census
from pocketdit.latency.traced_census import trace_census

EXPERIMENTS = Path(__file__).parent.parent / "experiments" / "paper"
TOKENS = 78  # CLIP's tokens and the learned token
# Fig. 2 prints the numbers 6, 20, 8 and 10. This reading has 6, 20 and 8 layers in (B) and (C), and moves four of them
# to the outer stages in (D).
DEPTHS = {"a": (36,), "b": (6, 20, 8), "c": (6, 20, 8), "d": (8, 16, 10)}
WIDTH = 1088


def shipped(spec: DiTSpec, _: str) -> DiTSpec:
    """Return the ladder's YAML file as it is."""
    return spec


def wider_heads(spec: DiTSpec, _: str) -> DiTSpec:
    """Use heads of 64 channels."""
    return replace(spec, head_dim=64)


def other_depths(spec: DiTSpec, name: str) -> DiTSpec:
    """Use ``DEPTHS``, and at most two key/value heads, because 34 heads cannot share eight."""
    heads = min(spec.text_kv_heads, 2)
    levels = tuple(
        replace(level, depth=depth, attention=replace(level.attention, kv_heads=heads))
        for level, depth in zip(spec.levels, DEPTHS[name], strict=True)
    )
    return replace(spec, width=WIDTH, text_width=WIDTH, text_kv_heads=heads, levels=levels)


READINGS: Mapping[str, tuple[Callable[[DiTSpec, str], DiTSpec], int]] = {
    "as shipped, 1024 queries at a time": (shipped, 1024),
    "all queries at once": (shipped, 0),
    "heads of 64 channels": (wider_heads, 1024),
    "36; 6, 20, 8; 8, 16, 10 layers of 1088": (other_depths, 1024),
}


def trace_ladder(change: Callable[[DiTSpec, str], DiTSpec], query_chunk: int) -> dict[str, Census]:
    """Trace all rungs of the ladder for one reading."""
    specs = {name: load(EXPERIMENTS / f"ladder_{name}.yaml", [], Experiment).config.dit for name in MEASURED}
    return {
        name: trace_census(
            change(spec, name), 1.0, (128, 128), TOKENS, blockwise="batched", query_chunk=query_chunk
        ).merged()
        for name, spec in specs.items()
    }  # fmt: skip


def main() -> None:
    """Print the errors of the chosen variant for every reading."""
    device = find_device(DEVICE)
    held_out = {**trace_graphs(), "small": load_census("small")}
    rows = []
    for title, (change, query_chunk) in READINGS.items():
        ladder = trace_ladder(change, query_chunk)
        fit = fit_coefficients(ladder, MEASURED, list(ladder), device, CHOSEN)
        left_out = leave_one_out(ladder, MEASURED, device, CHOSEN)
        errors = {name: math.log(left_out[name] / MEASURED[name]) for name in ladder}
        others = [
            math.log(CHOSEN.latency(held_out[figure.graph], device, fit.coefficients) / figure.milliseconds)
            for figure in ON_PHONE
        ]
        rows.append([
            title, *(f"{census.stored_bytes / 2e6:.0f} M" for census in ladder.values()),
            f"{fit.coefficients.stream:.2f}", f"{root_mean_square(fit.residuals):.2f}",
            *(f"{math.exp(error) - 1:+.0%}" for error in errors.values()),
            f"{root_mean_square(list(errors.values())):.2f}", f"{root_mean_square(others):.2f}",
        ])  # fmt: skip
    names = [TITLES[name][1] for name in MEASURED]
    headers = ["reading", *names, "stream", "fit", *(f"{name} left out" for name in names), "left out", "held out"]
    print(tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=("left", *["right"] * 12)))
    print("The held-out figures do not change. The small model is always that of our export.")


if __name__ == "__main__":
    main()

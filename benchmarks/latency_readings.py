"""Shows how the latency model's errors depend on details of the ladder that the paper does not specify.

    python -m benchmarks.latency_readings

The paper does not say how many layers its ladder has, how wide its heads are, or whether its attention processes the
queries in chunks. This benchmark traces the ladder for several readings of the paper, fits the model to each reading,
and prints the errors. This takes about three minutes. The shipped model is fitted to the first reading, whose graphs
have been exported.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tabulate import tabulate

from benchmarks.latency_figures import ON_PHONE, load_graphs
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
TOKENS = 78  # 77 CLIP tokens and one learned token


@dataclass(frozen=True)
class Reading:
    """A reading of the paper's ladder.

    Attributes:
        title: Name in the table.
        depths: For each rung, the number of layers in each stage. None uses the depths in the YAML files.
        width: Hidden size, if ``depths`` is set.
        head_dim: Channels per head.
        query_chunk: Number of queries that are processed at a time; 0 processes all of them at once.
    """

    title: str
    depths: Mapping[str, tuple[int, ...]] | None = None
    width: int = 1024
    head_dim: int = 32
    query_chunk: int = 1024


EXPORTED = {"a": (40,), "b": (8, 20, 10), "c": (8, 20, 10), "d": (9, 11, 10)}
# Fig. 2 prints the numbers 6, 20, 8 and 10. In this reading, (B) and (C) have 6, 20 and 8 layers, and (D) moves four of
# the 20 layers to the outer stages.
ALL_OF_FIGURE_2 = {"a": (36,), "b": (6, 20, 8), "c": (6, 20, 8), "d": (8, 16, 10)}
READINGS = (
    Reading("40; 8+20+10; 9+11+10, as exported", EXPORTED),
    Reading("as exported, but all queries at once", EXPORTED, query_chunk=0),
    Reading("as exported, but heads of 64 channels", EXPORTED, head_dim=64),
    Reading("36; 6+20+8; 8+16+10, width 1088", ALL_OF_FIGURE_2, 1088),
    Reading("experiments/paper/ladder_*.yaml"),
)


def spec_of(name: str, reading: Reading) -> DiTSpec:
    """Return the specification of a rung's network."""
    spec = load(EXPERIMENTS / f"ladder_{name}.yaml", [], Experiment).config.backbone
    assert isinstance(spec, DiTSpec)
    if reading.depths is None:
        return spec
    heads = reading.width // reading.head_dim
    # 34 query heads cannot be divided evenly among eight key/value heads.
    kv_heads = spec.text_kv_heads if heads % spec.text_kv_heads == 0 else 2
    levels = tuple(
        replace(level, depth=depth, attention=replace(level.attention, kv_heads=kv_heads))
        for level, depth in zip(spec.levels, reading.depths[name], strict=True)
    )
    return replace(
        spec, width=reading.width, text_width=reading.width, head_dim=reading.head_dim, text_kv_heads=kv_heads,
        levels=levels,
    )  # fmt: skip


def trace_ladder(reading: Reading) -> dict[str, Census]:
    """Trace all rungs of the ladder for one reading."""
    options = {"blockwise": "batched", "query_chunk": reading.query_chunk}
    return {
        name: trace_census(spec_of(name, reading), 1.0, (128, 128), TOKENS, **options).merged() for name in MEASURED
    }


def main() -> None:
    """Print the errors of the chosen variant for every reading."""
    device = find_device(DEVICE)
    held_out = {**load_graphs(), "small": load_census("small")}
    rows = []
    for reading in READINGS:
        ladder = trace_ladder(reading)
        fit = fit_coefficients(ladder, MEASURED, list(ladder), device, CHOSEN)
        left_out = leave_one_out(ladder, MEASURED, device, CHOSEN)
        errors = {name: math.log(left_out[name] / MEASURED[name]) for name in ladder}
        others = [
            math.log(CHOSEN.latency(held_out[figure.graph], device, fit.coefficients) / figure.milliseconds)
            for figure in ON_PHONE
        ]
        rows.append([
            reading.title, *(f"{census.stored_bytes / 2e6:.0f} M" for census in ladder.values()),
            f"{fit.coefficients.stream:.2f}", f"{root_mean_square(fit.residuals):.2f}",
            *(f"{math.exp(error) - 1:+.0%}" for error in errors.values()),
            f"{root_mean_square(list(errors.values())):.2f}", f"{root_mean_square(others):.2f}",
        ])  # fmt: skip
    names = [TITLES[name][1] for name in MEASURED]
    headers = ["reading", *names, "stream", "fit", *(f"{name} left out" for name in names), "left out", "held out"]
    print(tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=("left", *["right"] * 12)))
    print("The held-out graphs are the same for all readings. The small model is always the exported one.")


if __name__ == "__main__":
    main()

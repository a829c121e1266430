"""``python -m pocketdit.latency.calibrate``: fit the cost model to the paper's ladder, and say how far to trust it.

Prints every variant with its leave-one-out errors, then the chosen one in full with its predictions; writes
``coefficients.json`` beside this file and a picture. Takes seconds.

No sum over operations can fit both (A) and (B): 18 of (A)'s 40 layers are (B)'s layers at full resolution, so (A) can
take 2.2 times as long as (B) at most, and in the paper it takes 3.6 times. What makes (A) slower than its parts
(paging, heat, operations that leave the engine) is not in the model, and the intervals are as wide as that.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pocketdit.export.census import Census
from pocketdit.latency.coefficients import save
from pocketdit.latency.cost import Coefficients
from pocketdit.latency.devices import Device, find_device
from pocketdit.latency.fit import COVERAGE, Fit, Variant, fit, interval, leave_one_out, root_mean_square
from pocketdit.latency.ladder import DEVICE, MEASURED, TITLES, load_census

# One fitted coefficient, the rest published: the least leave-one-out error of all that are physically possible.
CHOSEN = Variant("streamed bandwidth (chosen)", ("stream",))
OTHERS = (
    Variant("arithmetic alone", ("compute",), Coefficients(stream=1e9)),
    Variant("all traffic streams", ("stream",), Coefficients(stream=2.0, on_chip=0.0)),
    Variant("elementwise three quarters fused", ("stream",), Coefficients(stream=2.0, elementwise=0.25)),
    Variant("working set 1 MiB", ("stream",), Coefficients(stream=2.0, on_chip=2**20)),
    Variant("working set 4 MiB", ("stream",), Coefficients(stream=2.0, on_chip=2**22)),
    Variant("and share of the peak", ("stream", "compute")),
    Variant("the same, three quarters fused", ("stream", "compute"), Coefficients(stream=2.0, elementwise=0.25)),
    Variant("and overhead of an operation", ("stream", "overhead")),
)
BITS = 4.3  # supplement C: the full network's average


def stored_at(census: Census, bits: float) -> Census:
    """The same graph with the weights of its convolutions as palettes of so many bits a weight (supplement C)."""
    operations = tuple(
        replace(o, weight_bytes=round(o.weight_bytes * bits / o.weight_bits), weight_bits=bits)
        if o.kind in ("conv", "conv_transpose") and o.weight_bits
        else o
        for o in census.operations
    )
    saved = census.weight_bytes - Census(operations).weight_bytes
    return Census(operations, census.stored_bytes - saved)


def variants_table(censuses: Mapping[str, Census], device: Device) -> str:
    headings = f"{'stream':>7} {'compute':>8} {'overhead':>9} {'fit':>6} {'left out':>9}"
    lines = [f"{'model':36} {headings}"]
    for variant in (CHOSEN, *OTHERS):
        found = fit(censuses, MEASURED, list(censuses), device, variant)
        without = leave_one_out(censuses, MEASURED, device, variant)
        errors = [math.log(without[name] / MEASURED[name]) for name in censuses]
        c = found.coefficients
        stream = f"{c.stream:7.2f}" if c.stream < 1e6 else f"{'free':>7}"
        note = "   impossible: above the peak" if c.compute > 1 else ""
        lines.append(
            f"{variant.title:36} {stream} {c.compute:8.2f} {c.overhead * 1e6:6.2f} us "
            f"{root_mean_square(found.residuals):6.2f} {root_mean_square(errors):9.2f}{note}"
        )
    lines.append(
        "fit, left out: root mean square of log(predicted / measured), fitted to all and without the graph itself"
    )
    return "\n".join(lines)


def ladder_table(censuses: Mapping[str, Census], found: Fit, without: Mapping[str, float]) -> str:
    lines = [f"{'ladder':20} {'paper':>8} {'fitted':>8} {'left out':>9} {'error':>7}"]
    for name, residual in zip(censuses, found.residuals, strict=True):
        paper = MEASURED[name]
        lines.append(
            f"{TITLES[name]:20} {paper:5.0f} ms {paper * math.exp(residual):5.0f} ms {without[name]:6.0f} ms "
            f"{without[name] / paper - 1:+7.0%}"
        )
    return "\n".join(lines)


def predictions_table(graphs: Mapping[str, Census], device: Device, found: Fit) -> str:
    lines = [f"{'predicted, a step':26} {'middle':>8} {f'{COVERAGE:.0%} interval':>18}"]
    for title, census in graphs.items():
        middle, low, high = interval(census, device, found)
        lines.append(f"{title:26} {middle:5.0f} ms {low:8.0f} to {high:4.0f} ms")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/latency.png"), help="where the picture goes")
    out = parser.parse_args().out
    device = find_device(DEVICE)
    censuses = {name: load_census(name) for name in MEASURED}
    found = fit(censuses, MEASURED, list(censuses), device, CHOSEN)
    without = leave_one_out(censuses, MEASURED, device, CHOSEN)
    save(found)
    graphs = {TITLES[name]: load_census(name) for name in ("tiny", "small", "full")}
    graphs[f"full at {BITS} bits"] = stored_at(graphs.pop(TITLES["full"]), BITS)
    print(f"{device.title}; measured: the paper's Fig. 3\n")
    print(variants_table(censuses, device), "\n")
    print(f"stream {found.coefficients.stream:.3f}: {found.coefficients.stream * device.memory / 1e9:.0f} GB/s\n")
    print(ladder_table(censuses, found, without), "\n")
    print(predictions_table(graphs, device, found))
    from pocketdit.latency.chart import draw

    draw(out, device, found, {TITLES[name]: census for name, census in censuses.items()},
         {TITLES[name]: MEASURED[name] for name in censuses},
         {TITLES[name]: value for name, value in without.items()}, graphs)  # fmt: skip
    print(f"\npicture  {out}")


if __name__ == "__main__":
    main()

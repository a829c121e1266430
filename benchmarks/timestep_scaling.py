"""Plot the weights of the data and the teacher in timestep-aware scaling (S in Eq. 8), for both readings of alpha_t.

python benchmarks/timestep_scaling.py [--out docs/images/timestep_scaling.png]
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from pocketdit.losses.distillation import task_weight

READINGS: tuple[Literal["density", "cdf"], ...] = ("density", "cdf")
TITLES = {"density": "Density divided by its maximum", "cdf": "Cumulative distribution"}
SETTINGS = ((1.0, 1.0), (3.0, 1.5))  # shift and spread of the training times


def plot(out: Path) -> None:
    """Plot one panel per reading and setting, shaded below alpha_t for the data and above it for the teacher."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    time = torch.linspace(0, 1, 1001)
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), sharex=True, sharey=True)
    for row, reading in zip(axes, READINGS, strict=True):
        for axis, (shift, spread) in zip(row, SETTINGS, strict=True):
            alpha = task_weight(time, math.log(shift), spread, reading)
            axis.fill_between(time, alpha, color="tab:blue", alpha=0.15, linewidth=0)
            axis.fill_between(time, alpha, 1, color="tab:orange", alpha=0.15, linewidth=0)
            axis.plot(time, alpha, color="tab:blue", label=r"$\alpha_t$, weight of the loss against data")
            axis.plot(
                time,
                1 - alpha,
                "--",
                color="tab:orange",
                label=r"$1 - \alpha_t$, weight of the loss against the teacher",
            )
            axis.set_title(f"{TITLES[reading]}, shift {shift:g}, spread {spread:g}", fontsize=11)
            axis.grid(alpha=0.3)
            axis.set(xlim=(0, 1), ylim=(0, 1.02))
    for axis in axes[:, 0]:
        axis.set_ylabel("weight")
    for axis in axes[1]:
        axis.set_xlabel("t (0: data, 1: noise)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(r"Timestep-aware scaling (Eq. 8) under two readings of $\alpha_t$", fontsize=13)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(out, dpi=90)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/images/timestep_scaling.png"),
        metavar="PNG",
        help="PNG file of the plot (default: %(default)s)",
    )
    args = parser.parse_args(arguments)
    plot(args.out)
    print(f"plot: {args.out}")


if __name__ == "__main__":
    main()

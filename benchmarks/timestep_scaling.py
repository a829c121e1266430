"""Draw how Eq. 8's S divides the loss between data and teacher over time, for both readings of alpha_t.

python benchmarks/timestep_scaling.py [--out docs/timestep_scaling.png]
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from pocketdit.losses.distillation import task_share

READINGS: tuple[Literal["density", "cdf"], ...] = ("density", "cdf")
TITLES = {"density": "density over its maximum", "cdf": "distribution function"}
SETTINGS = ((1.0, 1.0), (3.0, 1.5))  # shift and spread of the training times


def plot(out: Path) -> None:
    """One panel for each reading and setting: alpha_t below its curve, 1 - alpha_t above."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    time = torch.linspace(0, 1, 1001)
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), sharex=True, sharey=True)
    for row, reading in zip(axes, READINGS, strict=True):
        for axis, (amount, spread) in zip(row, SETTINGS, strict=True):
            share = task_share(time, math.log(amount), spread, reading)
            axis.fill_between(time, share, color="tab:blue", alpha=0.15, linewidth=0)
            axis.fill_between(time, share, 1, color="tab:orange", alpha=0.15, linewidth=0)
            axis.plot(time, share, color="tab:blue", label=r"$\alpha_t$, the data's loss")
            axis.plot(time, 1 - share, "--", color="tab:orange", label=r"$1 - \alpha_t$, the teacher's loss")
            axis.set_title(f"{TITLES[reading]}, shift {amount:g}, spread {spread:g}", fontsize=11)
            axis.grid(alpha=0.3)
            axis.set(xlim=(0, 1), ylim=(0, 1.02))
    for axis in axes[:, 0]:
        axis.set_ylabel("weight")
    for axis in axes[1]:
        axis.set_xlabel("t (0 is data, 1 is noise)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle("Timestep-aware scaling (Eq. 8), two readings", fontsize=13)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(out, dpi=90)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/timestep_scaling.png"))
    chosen = parser.parse_args(arguments)
    plot(chosen.out)
    print(f"picture: {chosen.out}")


if __name__ == "__main__":
    main()

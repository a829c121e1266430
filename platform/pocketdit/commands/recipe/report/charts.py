"""Charts of a recipe's report as SVG, whose text takes the color of the page."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from pocketdit.commands.recipe.report.content import Evaluated, TrainedRun, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT = "#010203"  # stands for the page's text color, which CSS sets
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), TEXT),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor"), "none"),
}


def loss_chart(run: TrainedRun) -> str:
    """Plot the losses of a run by step, on a logarithmic scale if all are positive."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 3.2))
        for name, points in sorted(run.curves.items()):
            dashed = name.startswith("validation")
            axis.plot(*zip(*points, strict=True), "--" if dashed else "-", linewidth=2 if dashed else 1, label=name)
        if all(value > 0 for points in run.curves.values() for _, value in points):
            axis.set_yscale("log")
        axis.set_xlabel("step")
        axis.set_ylabel("loss")
        axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        return to_svg(figure, f"Losses of {run.task} by training step")


def quality_chart(evaluated: Sequence[Evaluated], metric: str, values: Mapping[str, float]) -> str:
    """Plot a score by predicted latency and by size. The lines connect the widths of a network.

    Args:
        evaluated: The evaluations.
        metric: Name of the score.
        values: The score by task.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
        for axis, (column, text) in zip(
            axes,
            (("predicted ms per step", "predicted latency of a step (ms)"), ("size MB", "size (MB)")),
            strict=True,
        ):
            for group in dict.fromkeys((item.trained, item.steps) for item in evaluated):
                points = sorted(
                    (item.costs[key], values[item.task], f"{item.width:g}x")
                    for item in evaluated
                    if (item.trained, item.steps) == group and item.task in values
                    for key in item.costs
                    if key.startswith(column)
                )
                if points:
                    axis.plot(
                        [x for x, _, _ in points],
                        [y for _, y, _ in points],
                        "o-",
                        label=f"{group[0]}, {group[1]} steps",
                    )
                    for x, y, width in points:
                        axis.annotate(width, (x, y), textcoords="offset points", xytext=(5, 5), fontsize=9)
            axis.set_xlabel(text)
        axes[0].set_ylabel(metric)
        axes[1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        return to_svg(figure, f"{metric} by predicted latency and by size: {', '.join(map(label, evaluated))}")


def to_svg(figure: "Figure", description: str) -> str:
    """Return a figure as an SVG element with a description, and close the figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue().replace(TEXT, "currentColor")
    svg = svg[svg.index("<svg") :]
    title = description.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"(<svg[^>]*)>", rf'\1 role="img"><title>{title}</title>', svg, count=1)

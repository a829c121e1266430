"""Charts of a recipe's report as SVG, whose text takes the color of the page."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from pocketdit.commands.recipe.report.content import Evaluated, TrainedRun
from pocketdit.commands.recipe.report.paper_forms import NONE, Rung

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
        axis.set_title(run.task, fontsize=10)
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
    costs: tuple[tuple[str, Mapping[str, float | None]], ...] = (
        ("predicted latency of one evaluation (ms)", {item.task: item.network.latency for item in evaluated}),
        ("size (MB)", {item.task: item.network.size for item in evaluated}),
    )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
        for axis, (text, by_task) in zip(axes, costs, strict=True):
            for group in dict.fromkeys((item.trained, item.steps) for item in evaluated):
                points = sorted(
                    (cost, values[item.task], f"{item.width:g}x")
                    for item in evaluated
                    if (item.trained, item.steps) == group
                    and item.task in values
                    and (cost := by_task[item.task]) is not None
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
        labels = ", ".join(item.label for item in evaluated)
        return to_svg(figure, f"{metric} by predicted latency and by size: {labels}")


def ladder_chart(rungs: Sequence[Rung]) -> str:
    """Plot validation loss, parameters and predicted latency of the ladder's architectures (the paper's Figure 3)."""
    names = [rung.name for rung in rungs]
    panels = (
        ("validation loss", [rung.loss for rung in rungs], "{:.4f}"),
        ("parameters (M)", [rung.network.parameters for rung in rungs], "{:.3g}"),
        ("predicted latency (ms)", [rung.network.latency or math.nan for rung in rungs], "{:.3g}"),
    )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
        for index, (axis, (title, numbers, form)) in enumerate(zip(axes, panels, strict=True)):
            bars = axis.bar(names, numbers, color=f"C{index}")
            axis.bar_label(bars, [NONE if math.isnan(x) else form.format(x) for x in numbers], padding=2, fontsize=8)
            axis.set_title(title, fontsize=10)
            axis.margins(y=0.12)
            axis.tick_params(axis="x", rotation=30)
        losses = panels[0][1]
        margin = (max(losses) - min(losses)) or max(losses)
        axes[0].set_ylim(max(0.0, min(losses) - margin), max(losses) + margin / 2)  # the losses differ little
        figure.tight_layout()
        return to_svg(figure, f"Validation loss, parameters and predicted latency of {', '.join(names)}")


def to_svg(figure: "Figure", description: str) -> str:
    """Return a figure as an SVG element with a description, and close the figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue().replace(TEXT, "currentColor")
    svg = svg[svg.index("<svg") :]
    title = description.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"(<svg[^>]*)>", rf'\1 role="img"><title>{title}</title>', svg, count=1)

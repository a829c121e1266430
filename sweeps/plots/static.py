"""Static plots of a study: the front, parameter importances, objectives by parameter, and parallel coordinates."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from pocketdit.files import write_atomically
from sweeps.plots.scale import MISSING, Scale, param_scale
from sweeps.plots.view import StudyView, TrialPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULT, FRONT, INFEASIBLE = "0.62", "tab:blue", "tab:red"
BASELINE_STYLE: dict[str, Any] = {"color": "none", "edgecolor": "black", "s": 130, "marker": "D"}
TEXT_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}  # behind text that crosses lines
MAX_DESCRIBED = 24  # maximum number of trials described next to the plot


def save(figure: "Figure", path: Path) -> Path:
    """Write a figure as a PNG file, close the figure, and return the path."""
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png", bbox_inches="tight"))
    plt.close(figure)
    return path


def escape(text: str) -> str:
    """Escape text for matplotlib, which interprets text between two dollar signs as a formula."""
    return text.replace("$", r"\$")


def front_figure(view: StudyView) -> "Figure":
    """Plot each pair of objectives, or a single one against the trial number, and list the front next to the plot."""
    view = view.with_text(escape)
    pairs = [(x, y) for y, x in itertools.combinations(range(len(view.axes)), 2)]  # y is the earlier objective
    figure, axes = plt.subplots(1, max(1, len(pairs)), figsize=(8.2 * max(1, len(pairs)), 6), squeeze=False)
    if pairs:
        for axis, (x, y) in zip(axes[0], pairs, strict=True):
            _plot_pair(axis, view, x, y)
    else:
        _plot_history(axes[0][0], view)
    axes[0][0].legend(loc="best", fontsize=9)
    described = view.front[:MAX_DESCRIBED]
    lines = [f"{point.rank:2d}  {_values_text(view, point)}\n      {point.describe()}" for point in described]
    if len(view.front) > len(described):
        lines.append(f"and {len(view.front) - len(described)} more")
    heading = "Trials on the front" if len(view.axes) > 1 else "Best trial"
    axes[0][-1].text(1.03, 1.0, "\n".join([heading, *lines]), va="top", fontsize=8, transform=axes[0][-1].transAxes,
                     linespacing=1.35)  # fmt: skip
    figure.suptitle(view.title, fontsize=12, y=0.95)
    return figure


def _plot_pair(axis: "Axes", view: StudyView, x: int, y: int) -> None:
    _scatter(axis, [p for p in view.results if not p.rank], x, y, "dominated", color=RESULT, s=28)
    for point in view.front:
        if point.spread:
            axis.errorbar(point.value(x), point.value(y), xerr=point.spread[x], yerr=point.spread[y],
                          color=FRONT, capsize=3, linewidth=1, zorder=3)  # fmt: skip
    line = sorted((p.value(x), p.value(y)) for p in view.front)
    if len(view.axes) == 2 and line:
        # Steps instead of straight lines, because points between two trials on the front may not be attainable.
        where: Literal["post", "pre"] = "post" if view.axes[x].minimize else "pre"
        axis.step(*zip(*line, strict=True), where=where, color=FRONT, linewidth=1, alpha=0.6)
    _scatter(axis, view.front, x, y, "front", color=FRONT, s=48, zorder=4)
    for point in view.front:
        offset, side = (
            ((5, 5), "left") if point.rank % 2 else ((-5, -11), "right")
        )  # label neighboring points on opposite sides
        axis.annotate(str(point.rank), (point.value(x), point.value(y)), xytext=offset, ha=side,
                      textcoords="offset points", fontsize=9, zorder=5)  # fmt: skip
    _scatter(axis, [p for p in view.results if p.baseline], x, y, "baseline", zorder=3, **BASELINE_STYLE)
    known = [p for p in view.infeasible if p.values[x] is not None and p.values[y] is not None]
    _scatter(axis, known, x, y, "infeasible", color=INFEASIBLE, s=34, marker="x")
    _plot_untrained(axis, view, x, y)
    axis.set(xlabel=view.axes[x].label, ylabel=view.axes[y].label)
    axis.grid(alpha=0.3)


def _plot_untrained(axis: "Axes", view: StudyView, x: int, y: int) -> None:
    """Mark infeasible trials with only one known objective as ticks along that objective's axis."""
    for known, other, transform in ((x, y, axis.get_xaxis_transform()), (y, x, axis.get_yaxis_transform())):
        values = [p.value(known) for p in view.infeasible if p.values[known] is not None and p.values[other] is None]
        if values:
            edge = [0.0] * len(values)
            coordinates = (values, edge) if known == x else (edge, values)
            axis.scatter(*coordinates, transform=transform, color=INFEASIBLE, marker="|" if known == x else "_", s=160,
                         clip_on=False, label=f"infeasible, not trained ({len(values)})")  # fmt: skip
            # Only one coordinate is in data units, so these points must be added to the data limits explicitly.
            axis.update_datalim(list(zip(*coordinates, strict=True)), updatex=known == x, updatey=known == y)
            axis.autoscale_view()


def _plot_history(axis: "Axes", view: StudyView) -> None:
    """Plot the single objective against the trial number, along with the best value so far."""
    objective = view.axes[0]
    ordered = sorted(view.results, key=lambda p: p.number)
    best = list(itertools.accumulate((p.value(0) for p in ordered), min if objective.minimize else max))
    axis.step([p.number for p in ordered], best, where="post", color=FRONT, linewidth=1, label="best so far")
    _scatter(axis, [p for p in view.results if not p.rank], None, 0, "trial", color=RESULT, s=28)
    _scatter(axis, view.front, None, 0, "best", color=FRONT, s=48, zorder=4)
    _scatter(axis, [p for p in view.results if p.baseline], None, 0, "baseline", **BASELINE_STYLE)
    known = [p for p in view.infeasible if p.values[0] is not None]
    _scatter(axis, known, None, 0, "infeasible", color=INFEASIBLE, marker="x", s=34)
    axis.set(xlabel="trial", ylabel=objective.label)
    axis.grid(alpha=0.3)


def _scatter(axis: "Axes", points: Sequence[TrialPoint], x: int | None, y: int, label: str, **style: Any) -> None:
    """Plot trials by objectives ``x`` and ``y``. If ``x`` is None, the x-axis is the trial number."""
    if points:
        xs = [float(p.number) if x is None else p.value(x) for p in points]
        axis.scatter(xs, [p.value(y) for p in points], label=f"{label} ({len(points)})", **style)


def importance_figure(view: StudyView, importances: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Plot the importance of each parameter for each objective as a bar.

    Args:
        view: The study, for the title.
        importances: For each objective's label, the importance of each parameter, from 0 to 1.
    """
    view = view.with_text(escape)
    importances = {
        escape(objective): {escape(name): share for name, share in by_name.items()}
        for objective, by_name in importances.items()
    }
    names = sorted(
        {n for by_name in importances.values() for n in by_name},
        key=lambda n: max(by_name.get(n, 0.0) for by_name in importances.values()),
    )
    figure, axis = plt.subplots(figsize=(8, 1.6 + 0.3 * len(names) * len(importances)))
    height = 0.8 / len(importances)
    for index, (objective, by_name) in enumerate(importances.items()):
        places = [i + (len(importances) - 1) * height / 2 - index * height for i in range(len(names))]
        bars = axis.barh(places, [by_name.get(n, 0.0) for n in names], height=height * 0.92, label=objective)
        axis.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=9)
    axis.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1.08),
             xlabel="share of the objective's variance that the parameter explains")  # fmt: skip
    axis.legend(loc="lower right", fontsize=9)
    axis.set_title(f"{view.title}: importance of parameters", fontsize=12)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def slice_figure(view: StudyView) -> "Figure":
    """Plot each objective against each parameter."""
    view = view.with_text(escape)
    rows, columns = len(view.axes), max(1, len(view.param_names))
    size = (max(6.0, 3.1 * columns + 1), 2.9 * rows + 1)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey="row", layout="constrained")
    for column, name in enumerate(view.param_names):
        scale = param_scale(view, name)
        for row, objective in enumerate(view.axes):
            axis = axes[row][column]
            for points, style in filter(lambda layer: layer[0], _layers(view)):
                with_both = [p for p in points if name in p.params and p.values[row] is not None]
                xs = [scale.position(p.params[name]) for p in with_both]
                axis.scatter(xs, [p.value(row) for p in with_both], **style)
            _set_ticks(axis, scale)
            axis.grid(alpha=0.3)
            if row == rows - 1:
                axis.set_xlabel(name)
            if column == 0:
                axis.set_ylabel(textwrap.fill(objective.short_label, 26))
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle(f"{view.title}: objectives by parameter", fontsize=12)
    return figure


def _layers(view: StudyView) -> list[tuple[Sequence[TrialPoint], dict[str, Any]]]:
    others = "dominated" if len(view.axes) > 1 else "trial"
    return [
        ([p for p in view.results if not p.rank], {"color": RESULT, "s": 22, "label": others}),
        (view.infeasible, {"color": INFEASIBLE, "s": 26, "marker": "x", "label": "infeasible"}),
        (view.front, {"color": FRONT, "s": 34, "zorder": 4, "label": view.best_label}),
    ]


def _set_ticks(axis: "Axes", scale: Scale) -> None:
    if scale.ticks:
        long = max(len(label) for label in scale.labels) > 6
        axis.set_xticks(
            scale.ticks, scale.labels, rotation=30 if long else 0, ha="right" if long else "center", fontsize=8
        )
        axis.set_xlim(min(scale.ticks) - 0.5, max(scale.ticks) + 0.5)
    elif scale.logarithmic:
        axis.set_xscale("log")


def parallel_figure(view: StudyView) -> "Figure":
    """Plot each trial as a line through all parameters and objectives, with the front in color."""
    view = view.with_text(escape)
    columns = [*view.param_names, *(axis.short_label for axis in view.axes)]
    figure, axis = plt.subplots(figsize=(1.9 * len(columns) + 1, 5))
    scales = [param_scale(view, name) for name in view.param_names]
    ranges = [Scale.of_numbers([p.values[i] for p in view.points]) for i in range(len(view.axes))]
    for (points, style), alpha in zip(_layers(view), (0.6, 0.35, 1.0), strict=True):
        for point in points:
            heights = [
                scale.height(point.params[name]) if name in point.params else MISSING
                for name, scale in zip(view.param_names, scales, strict=True)
            ]
            heights += [
                math.nan if value is None else scale.height(value)
                for value, scale in zip(point.values, ranges, strict=True)
            ]
            axis.plot(heights, color=style["color"], alpha=alpha, linewidth=1.8 if point.rank else 1.0,
                      marker=".", markersize=4)  # fmt: skip
    for column, scale in enumerate([*scales, *ranges]):
        axis.axvline(column, color="0.4", linewidth=0.8)
        marks = scale.marks()
        if column < len(scales) and any(columns[column] not in p.params for p in view.points):
            marks.append((MISSING, "not set"))
        for height, label in marks:
            axis.annotate(label, (column, height), xytext=(4, 0), textcoords="offset points", fontsize=8, va="center",
                          bbox=TEXT_BOX, zorder=5)  # fmt: skip
    labels = [textwrap.fill(name, 18) for name in columns]
    axis.set(xticks=range(len(columns)), xticklabels=labels, yticks=[], xlim=(-0.15, len(columns) - 0.55))
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axis.set_title(f"{view.title}: all parameters and objectives (blue: {view.best_label})", fontsize=12, loc="left")
    return figure


def _values_text(view: StudyView, point: TrialPoint) -> str:
    """Format a trial's objectives on one line, each with its unit or, if it has no unit, with its name."""
    values = zip(view.value_labels(point), view.axes, strict=True)
    return f"trial {point.number}: " + ", ".join(f"{text} {axis.unit or axis.name}" for text, axis in values)

"""A study as PNGs: the front, what matters, each choice by itself, all choices together."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from pocketdit.files import write_atomically
from sweeps.looking.scale import NOT_CHOSEN, Scale, scale_of
from sweeps.looking.shown import Point, Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULT, FRONT, BROKEN = "0.62", "tab:blue", "tab:red"
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}  # behind text on lines
LISTED = 24  # so many points of the front are described in words beside the picture
FIRST = 0


def save(figure: "Figure", path: Path) -> Path:
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png", bbox_inches="tight"))
    plt.close(figure)
    return path


def pareto(shown: Shown) -> "Figure":
    """Every pair of objectives, or the one objective over the trials; the front numbered and described beside."""
    pairs = [(x, y) for y, x in itertools.combinations(range(len(shown.axes)), 2)]  # the first objective upright
    figure, axes = plt.subplots(1, max(1, len(pairs)), figsize=(8.2 * max(1, len(pairs)), 6), squeeze=False)
    if pairs:
        for axis, (x, y) in zip(axes[0], pairs, strict=True):
            _pair(axis, shown, x, y)
    else:
        _history(axes[0][0], shown)
    axes[0][0].legend(loc="best", fontsize=9)
    listed = shown.front[:LISTED]
    lines = [f"{point.rank:2d}  {_values(shown, point)}\n      {point.describe()}" for point in listed]
    if len(shown.front) > len(listed):
        lines.append(f"and {len(shown.front) - len(listed)} more")
    axes[0][-1].text(1.03, 1.0, "\n".join([f"The {shown.best} by number", *lines]), va="top", fontsize=8,
                     transform=axes[0][-1].transAxes, linespacing=1.35)  # fmt: skip
    figure.suptitle(shown.title, fontsize=12, y=0.95)
    return figure


def _pair(axis: "Axes", shown: Shown, x: int, y: int) -> None:
    _dots(axis, [p for p in shown.results if not p.rank], x, y, "result", color=RESULT, s=28)
    for point in shown.front:
        if point.spread:
            axis.errorbar(point.at(x), point.at(y), xerr=point.spread[x], yerr=point.spread[y],
                          color=FRONT, capsize=3, linewidth=1, zorder=3)  # fmt: skip
    line = sorted((p.at(x), p.at(y)) for p in shown.front)
    if len(shown.axes) == 2 and line:
        # A step: between two points of a front nothing better than either was seen.
        where: Literal["post", "pre"] = "post" if shown.axes[x].minimise else "pre"
        axis.step(*zip(*line, strict=True), where=where, color=FRONT, linewidth=1, alpha=0.6)
    _dots(axis, shown.front, x, y, "front", color=FRONT, s=48, zorder=4)
    for point in shown.front:
        offset, side = ((5, 5), "left") if point.rank % 2 else ((-5, -11), "right")  # neighbours apart
        axis.annotate(str(point.rank), (point.at(x), point.at(y)), xytext=offset, ha=side,
                      textcoords="offset points", fontsize=9, zorder=5)  # fmt: skip
    _dots(axis, [p for p in shown.results if p.baseline], x, y, "baseline", color="none", edgecolor="black", s=130,
          marker="D", zorder=3)  # fmt: skip
    known = [p for p in shown.broken if p.values[x] is not None and p.values[y] is not None]
    _dots(axis, known, x, y, "refused", color=BROKEN, s=34, marker="x")
    _half_known(axis, shown, x, y)
    axis.set(xlabel=shown.axes[x].label, ylabel=shown.axes[y].label)
    axis.grid(alpha=0.3)


def _half_known(axis: "Axes", shown: Shown, x: int, y: int) -> None:
    """Trials refused before training have a place on one axis alone: ticks along it."""
    for seen, other, place in ((x, y, axis.get_xaxis_transform()), (y, x, axis.get_yaxis_transform())):
        values = [p.at(seen) for p in shown.broken if p.values[seen] is not None and p.values[other] is None]
        if values:
            ends = [0.0] * len(values)
            spots = (values, ends) if seen == x else (ends, values)
            axis.scatter(*spots, transform=place, color=BROKEN, marker="|" if seen == x else "_", s=160,
                         clip_on=False, label=f"refused, untrained ({len(values)})")  # fmt: skip


def _history(axis: "Axes", shown: Shown) -> None:
    objective = shown.axes[FIRST]
    results = [p for p in shown.results if not p.rank]
    axis.scatter([p.number for p in results], [p.at(FIRST) for p in results], color=RESULT, s=28, label="result")
    better = min if objective.minimise else max
    ordered = sorted(shown.results, key=lambda p: p.number)
    best = list(itertools.accumulate((p.at(FIRST) for p in ordered), better))
    axis.step([p.number for p in ordered], best, where="post", color=FRONT, linewidth=1, label="best so far")
    for point in shown.front:
        axis.scatter([point.number], [point.at(FIRST)], color=FRONT, s=48, zorder=4, label="best")
    compared = [p for p in shown.results if p.baseline]
    if compared:
        axis.scatter([p.number for p in compared], [p.at(FIRST) for p in compared], color="none", edgecolor="black",
                     s=130, marker="D", label="baseline")  # fmt: skip
    known = [p for p in shown.broken if p.values[FIRST] is not None]
    if known:
        axis.scatter([p.number for p in known], [p.at(FIRST) for p in known], color=BROKEN, marker="x", s=34,
                     label="refused")  # fmt: skip
    axis.set(xlabel="trial", ylabel=objective.label)
    axis.grid(alpha=0.3)


def _dots(axis: "Axes", points: Sequence[Point], x: int, y: int, label: str, **style: object) -> None:
    if points:
        axis.scatter([p.at(x) for p in points], [p.at(y) for p in points],
                     label=f"{label} ({len(points)})", **style)  # type: ignore[arg-type]  # fmt: skip


def importance(shown: Shown, shares: Mapping[str, Mapping[str, float]]) -> "Figure":
    """``shares``: of every objective by name, of every choice by name, from 0 to 1."""
    names = sorted(
        {n for by_name in shares.values() for n in by_name}, key=lambda n: max(s.get(n, 0.0) for s in shares.values())
    )
    figure, axis = plt.subplots(figsize=(8, 1.6 + 0.3 * len(names) * len(shares)))
    height = 0.8 / len(shares)
    for index, (objective, by_name) in enumerate(shares.items()):
        places = [i + (len(shares) - 1) * height / 2 - index * height for i in range(len(names))]
        bars = axis.barh(places, [by_name.get(n, 0.0) for n in names], height=height * 0.92, label=objective)
        axis.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=9)
    axis.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1.08),
             xlabel="share of the objective's variance that the choice explains")  # fmt: skip
    axis.legend(loc="lower right", fontsize=9)
    axis.set_title(f"{shown.title}: what matters", fontsize=12)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def slices(shown: Shown) -> "Figure":
    """Every objective over every choice."""
    rows, columns = len(shown.axes), max(1, len(shown.names))
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.1 * columns + 1, 2.9 * rows + 0.6), squeeze=False, sharey="row"
    )
    for column, name in enumerate(shown.names):
        scale = scale_of(shown, name)
        for row, objective in enumerate(shown.axes):
            axis = axes[row][column]
            for points, style in filter(lambda layer: layer[0], _layers(shown)):
                with_both = [p for p in points if name in p.choices and p.values[row] is not None]
                axis.scatter([scale.place(p.choices[name]) for p in with_both], [p.at(row) for p in with_both], **style)
            _ticks(axis, scale)
            axis.grid(alpha=0.3)
            if row == rows - 1:
                axis.set_xlabel(name)
            if column == 0:
                axis.set_ylabel(textwrap.fill(objective.short, 26))
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=3, fontsize=9)
    figure.suptitle(f"{shown.title}: each choice by itself", x=0.02, ha="left", fontsize=12)
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    return figure


def _layers(shown: Shown) -> list[tuple[Sequence[Point], dict[str, object]]]:
    return [
        ([p for p in shown.results if not p.rank], {"color": RESULT, "s": 22, "label": "result"}),
        (shown.broken, {"color": BROKEN, "s": 26, "marker": "x", "label": "refused"}),
        (shown.front, {"color": FRONT, "s": 34, "zorder": 4, "label": shown.best}),
    ]


def _ticks(axis: "Axes", scale: Scale) -> None:
    if scale.ticks:
        long = max(len(label) for label in scale.labels) > 6
        axis.set_xticks(
            scale.ticks, scale.labels, rotation=30 if long else 0, ha="right" if long else "center", fontsize=8
        )
        axis.set_xlim(min(scale.ticks) - 0.5, max(scale.ticks) + 0.5)
    elif scale.logarithmic:
        axis.set_xscale("log")


def parallel(shown: Shown) -> "Figure":
    """One line a trial through all choices and objectives, the front in colour."""
    columns = [*shown.names, *(axis.short for axis in shown.axes)]
    figure, axis = plt.subplots(figsize=(1.9 * len(columns) + 1, 5))
    scales = [scale_of(shown, name) for name in shown.names]
    spans = [Scale.of_numbers([p.values[i] for p in shown.points]) for i in range(len(shown.axes))]
    for (points, style), alpha in zip(_layers(shown), (0.6, 0.35, 1.0), strict=True):
        for point in points:
            heights = [scale.height(point.choices[name]) if name in point.choices else NOT_CHOSEN
                       for name, scale in zip(shown.names, scales, strict=True)]  # fmt: skip
            heights += [math.nan if value is None else span.height(value)
                        for value, span in zip(point.values, spans, strict=True)]  # fmt: skip
            axis.plot(heights, color=style["color"], alpha=alpha, linewidth=1.8 if point.rank else 1.0,  # type: ignore[arg-type]
                      marker=".", markersize=4)  # fmt: skip
    for column, scale in enumerate([*scales, *spans]):
        axis.axvline(column, color="0.4", linewidth=0.8)
        marks = scale.marks()
        if column < len(scales) and any(columns[column] not in p.choices for p in shown.points):
            marks.append((NOT_CHOSEN, "not chosen"))
        for height, label in marks:
            axis.annotate(label, (column, height), xytext=(4, 0), textcoords="offset points", fontsize=8, va="center",
                          bbox=PAPER, zorder=5)  # fmt: skip
    labels = [textwrap.fill(name, 18) for name in columns]
    axis.set(xticks=range(len(columns)), xticklabels=labels, yticks=[], xlim=(-0.15, len(columns) - 0.55))
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axis.set_title(f"{shown.title}: all choices together (blue: {shown.best})", fontsize=12, loc="left")
    return figure


def _values(shown: Shown, point: Point) -> str:
    """A trial's figures in one line, each with its unit or, without one, its objective's name."""
    figures = zip(shown.figures(point), shown.axes, strict=True)
    return f"trial {point.number}: " + ", ".join(f"{text} {axis.unit or axis.name}" for text, axis in figures)

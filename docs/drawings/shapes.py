"""Draws the boxes, arrows and labels of the diagrams, and defines their colors."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

INK, LINE = "#1c2733", "#5b6770"
GREY, BLUE, ORANGE, GREEN, PURPLE = "#edf0f2", "#cfe2f3", "#fbdcb8", "#d3ebd0", "#e4d9f2"


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a white figure (size in inches) with axes in tenths of an inch and the origin at the top left."""
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10 * width), ylim=(10 * height, 0))
    axes.set_axis_off()
    return figure, axes


def label(axes: Axes, x: float, y: float, text: str, size: float = 12, **style: Any) -> None:
    """Write text, by default centered at (x, y)."""
    default: dict[str, Any] = {
        "ha": "center",
        "va": "center_baseline",
        "color": INK,
        "fontsize": size,
        "linespacing": 1.3,
    }
    axes.text(x, y, text, **default | style)


def rectangle(axes: Axes, x: float, y: float, width: float, height: float, **style: Any) -> None:
    """Draw a rectangle whose top left corner is at (x, y)."""
    axes.add_patch(Rectangle((x, y), width, height, **{"linewidth": 0} | style))


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, color: str, size: float = 11.5) -> None:
    """Draw a rounded box with text, centered at (x, y)."""
    patch: dict[str, Any] = {
        "boxstyle": "round,pad=0,rounding_size=0.8",
        "facecolor": color,
        "edgecolor": LINE,
        "linewidth": 1.2,
    }
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **patch))
    label(axes, x, y, text, size, va="center")


def legend(axes: Axes, x: float, y: float, color: str, text: str) -> None:
    """Draw a colored square whose top left corner is at (x, y), with text beside it."""
    rectangle(axes, x, y, 2.0, 2.0, facecolor=color, edgecolor=LINE, linewidth=0.8)
    label(axes, x + 2.8, y + 1.1, text, 11.5, ha="left")


def arrow(axes: Axes, *points: tuple[float, float], **style: Any) -> None:
    """Draw a polyline through the points with an arrowhead at its end."""
    line: dict[str, Any] = {"color": LINE, "linewidth": 1.4} | style
    if len(points) > 2:
        axes.plot(*zip(*points[:-1], strict=True), solid_capstyle="butt", solid_joinstyle="round", **line)
    head: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(points[-2], points[-1], **head, **line))


def plus(axes: Axes, x: float, y: float) -> None:
    """Draw a plus sign in a circle, which represents an addition."""
    axes.plot(x, y, "o", color="white", markeredgecolor=LINE, markeredgewidth=1.2, markersize=11.5, zorder=3)
    axes.plot(x, y, "+", color=LINE, markeredgewidth=1.4, markersize=7, zorder=4)

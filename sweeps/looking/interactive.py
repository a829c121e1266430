"""A study as one page that needs nothing but a browser: the same pictures, with every trial under the pointer."""

import html
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweeps.looking.scale import NOT_CHOSEN, Scale, scale_of
from sweeps.looking.shown import Point, Shown, Views, show

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

RESULT, FRONT, BROKEN = "#9e9e9e", "#1f77b4", "#d62728"
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd")
_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.45 sans-serif; max-width: 1250px; margin: 2em auto; padding: 0 1em; color: #222 }}
table {{ border-collapse: collapse; font-size: 14px }}
td, th {{ padding: .3em .9em; border-bottom: 1px solid #ddd; text-align: right }}
h2 {{ margin: 1.6em 0 .3em }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
{parts}
</body></html>
"""


def page(views: Views, shares: Mapping[str, Mapping[str, float]]) -> str:
    """HTML with plotly's program inside it; ``shares`` as ``pictures.importance`` takes them, empty for none."""
    import plotly.io

    shown, search = views.furthest, views.search
    figures = [("The front" if len(shown.axes) > 1 else "Progress", pareto(shown))]
    if shares:
        figures.append(("What matters", importance(shares)))
    figures += [("Each choice by itself", slices(search)), ("All choices together", parallel(search))]
    parts = []
    for number, (title, figure) in enumerate(figures):
        body = plotly.io.to_html(figure, include_plotlyjs=number == 0, full_html=False, config={"displaylogo": False})
        parts.append(f"<h2>{title}</h2>\n{body}")
        if number == 0:
            parts.append(front_table(shown))
    counts = f"{len(shown.results)} results, {len(shown.broken)} refused"
    summary = f"{counts}. Point at a mark to see its choices."
    return _PAGE.format(title=html.escape(shown.title), summary=summary, parts="\n".join(parts))


def front_table(shown: Shown) -> str:
    """The front's trials with their values and choices."""
    names = ["", "trial", *(axis.short for axis in shown.axes), *shown.names]
    rows = ["".join(f"<th>{html.escape(name)}</th>" for name in names)]
    for point in shown.front:
        choices = [show(point.choices[name]) if name in point.choices else "" for name in shown.names]
        cells = [str(point.rank), str(point.number), *shown.figures(point), *choices]
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    return "<table>\n" + "\n".join(f"<tr>{row}</tr>" for row in rows) + "\n</table>"


def pareto(shown: Shown) -> "Figure":
    """As ``pictures.pareto``."""
    from plotly.subplots import make_subplots

    pairs = [(x, y) for y, x in itertools.combinations(range(len(shown.axes)), 2)]
    figure = make_subplots(1, max(1, len(pairs)))
    for column, (x, y) in enumerate(pairs, 1):
        if len(pairs) == 1 and shown.front:
            line = sorted((p.values[x], p.values[y]) for p in shown.front)  # type: ignore[type-var]
            figure.add_scatter(x=[spot[0] for spot in line], y=[spot[1] for spot in line], mode="lines",
                               line={"color": FRONT, "width": 1, "shape": "hv" if shown.axes[x].minimise else "vh"},
                               showlegend=False, hoverinfo="skip")  # fmt: skip
        for layer in _layers(shown):
            points = [p for p in layer["points"] if p.values[x] is not None and p.values[y] is not None]
            _scatter(figure, shown, layer | {"points": points}, 1, column,
                     [p.values[x] for p in points], [p.values[y] for p in points])  # fmt: skip
        for point in shown.front:
            figure.add_annotation(x=point.values[x], y=point.values[y], text=str(point.rank), showarrow=False,
                                  xshift=11 if point.rank % 2 else -11, yshift=9 if point.rank % 2 else -9,
                                  row=1, col=column)  # fmt: skip
        for seen in (x, y):
            _half_known(figure, shown, x, y, seen, column)
        figure.update_xaxes(title=shown.axes[x].label, row=1, col=column)
        figure.update_yaxes(title=shown.axes[y].label, row=1, col=column)
    if not pairs:
        for layer in _layers(shown):
            points = [p for p in layer["points"] if p.values[0] is not None]
            _scatter(figure, shown, layer | {"points": points}, 1, 1,
                     [p.number for p in points], [p.values[0] for p in points])  # fmt: skip
        figure.update_xaxes(title="trial")
        figure.update_yaxes(title=shown.axes[0].label)
    return _style(figure, 560)


def _half_known(figure: "Figure", shown: Shown, x: int, y: int, seen: int, column: int) -> None:
    """Ticks along the axis of the one objective that a trial has which was refused before training."""
    other = y if seen == x else x
    points = [p for p in shown.broken if p.values[seen] is not None and p.values[other] is None]
    known = [p.values[other] for p in shown.points if p.values[other] is not None]
    if not points or not known:
        return
    edge = min(known) - 0.04 * (max(known) - min(known))  # type: ignore[type-var, operator]
    symbol = "line-ns-open" if seen == x else "line-ew-open"
    layer = {"points": points, "name": "refused, untrained",
             "marker": {"color": BROKEN, "size": 12, "symbol": symbol}}  # fmt: skip
    spots = ([p.values[seen] for p in points], [edge] * len(points))
    _scatter(figure, shown, layer, 1, column, *(spots if seen == x else spots[::-1]))


def importance(shares: Mapping[str, Mapping[str, float]]) -> "Figure":
    """As ``pictures.importance``."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = sorted({n for s in shares.values() for n in s}, key=lambda n: max(s.get(n, 0.0) for s in shares.values()))
    # The first objective in its colour, and on top: plotly begins a group of bars from below.
    for (objective, by_name), colour in reversed(list(zip(shares.items(), itertools.cycle(COLOURS)))):
        values = [by_name.get(name, 0.0) for name in names]
        figure.add_bar(x=values, y=names, orientation="h", name=objective, marker_color=colour,
                       text=[f"{v:.2f}" for v in values])  # fmt: skip
    figure.update_layout(legend_traceorder="reversed")
    figure.update_yaxes(ticklabelstandoff=6)
    figure.update_xaxes(title="share of the objective's variance that the choice explains", range=[0, 1])
    return _style(figure, 160 + 30 * len(names) * len(shares))


def slices(shown: Shown) -> "Figure":
    """As ``pictures.slices``."""
    from plotly.subplots import make_subplots

    rows, columns = len(shown.axes), max(1, len(shown.names))
    figure = make_subplots(rows, columns, shared_yaxes=True, vertical_spacing=0.1, horizontal_spacing=0.02)
    for column, name in enumerate(shown.names, 1):
        scale = scale_of(shown, name)
        for row, objective in enumerate(shown.axes, 1):
            for layer in _layers(shown):
                points = [p for p in layer["points"] if name in p.choices and p.values[row - 1] is not None]
                _scatter(figure, shown, layer | {"points": points, "first": row == column == 1}, row, column,
                         [scale.place(p.choices[name]) for p in points],
                         [p.values[row - 1] for p in points])  # fmt: skip
            if scale.ticks:
                figure.update_xaxes(tickvals=scale.ticks, ticktext=scale.labels, row=row, col=column,
                                    range=[-0.5, len(scale.ticks) - 0.5])  # fmt: skip
            elif scale.logarithmic:
                figure.update_xaxes(type="log", dtick=1, exponentformat="power", row=row, col=column)
            if column == 1:
                figure.update_yaxes(title=textwrap.fill(objective.short, 26).replace("\n", "<br>"), row=row, col=column)
        figure.update_xaxes(title=name, row=rows, col=column)
    return _style(figure, 300 * rows + 60)


def parallel(shown: Shown) -> "Figure":
    """As ``pictures.parallel``; ranges can be picked on every axis."""
    import plotly.graph_objects as go

    points = [*shown.broken, *(p for p in shown.results if not p.rank), *shown.front]
    dimensions: list[dict[str, Any]] = []
    for name in shown.names:
        scale = scale_of(shown, name)
        marks = scale.marks()
        missing = any(name not in p.choices for p in points)
        if missing:
            marks.append((NOT_CHOSEN, "not chosen"))
        heights = [scale.height(p.choices[name]) if name in p.choices else NOT_CHOSEN for p in points]
        dimensions.append(_dimension(name, heights, marks, NOT_CHOSEN if missing else 0.0))
    for index, axis in enumerate(shown.axes):
        span = Scale.of_numbers([p.values[index] for p in shown.points])
        heights = [NOT_CHOSEN if p.values[index] is None else span.height(p.values[index]) for p in points]
        missing = NOT_CHOSEN in heights
        marks = [*span.marks(), *([(NOT_CHOSEN, "untrained")] if missing else [])]
        dimensions.append(_dimension(axis.short, heights, marks, NOT_CHOSEN if missing else 0.0))
    kinds = [0.0 if p.broken else 1.0 if p.rank else 0.5 for p in points]
    colours = [[0.0, "#f2b8b8"], [0.5, "#bdbdbd"], [1.0, FRONT]]
    line = {"color": kinds, "colorscale": colours, "cmin": 0, "cmax": 1}
    figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelside="bottom"))
    return _style(figure, 480)


def _dimension(label: str, heights: Sequence[float], marks: Sequence[tuple[float, str]], low: float) -> dict[str, Any]:
    ticks = {"tickvals": [height for height, _ in marks], "ticktext": [text for _, text in marks]}
    return {"label": textwrap.fill(label, 16).replace("\n", "<br>"), "values": heights, "range": [low, 1.0], **ticks}


def _layers(shown: Shown) -> list[dict[str, Any]]:
    rest = [p for p in shown.results if not p.rank]
    return [
        {"points": rest, "name": "result", "marker": {"color": RESULT, "size": 7}},
        {"points": shown.broken, "name": "refused",
         "marker": {"color": BROKEN, "size": 8, "symbol": "x-thin-open"}},
        {"points": shown.front, "name": shown.best, "marker": {"color": FRONT, "size": 10}},
        {"points": [p for p in shown.results if p.baseline], "name": "baseline",
         "marker": {"color": "black", "size": 15, "symbol": "diamond-open"}},
    ]  # fmt: skip


def _scatter(
    figure: "Figure", shown: Shown, layer: Mapping[str, Any], row: int, column: int, x: Sequence[Any], y: Sequence[Any]
) -> None:
    points: Sequence[Point] = layer["points"]
    if not points:
        return
    figure.add_scatter(
        x=x, y=y, mode="markers", marker=layer["marker"], name=layer["name"], legendgroup=layer["name"], row=row,
        col=column, showlegend=layer.get("first", column == 1), hovertemplate="%{text}<extra></extra>",
        text=[_hover(shown, point) for point in points],
    )  # fmt: skip


def _hover(shown: Shown, point: Point) -> str:
    lines = [f"<b>trial {point.number}</b>" + (f", {shown.best} {point.rank}" if point.rank else "")]
    lines += ["a baseline"] * point.baseline
    lines += [f"{axis.short}: {text}" for axis, text in zip(shown.axes, shown.figures(point), strict=True)]
    lines += [f"{name}: {show(value)}" for name, value in point.choices.items()]
    lines += [f"refused: {text}" for text in point.broken]
    return "<br>".join(html.escape(line) if not line.startswith("<b>") else line for line in lines)


def _style(figure: "Figure", height: int) -> "Figure":
    figure.update_layout(
        template="plotly_white", height=height, margin={"l": 70, "r": 70, "t": 80, "b": 80},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return figure

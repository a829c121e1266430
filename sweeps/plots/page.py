"""The study page, a single HTML file that works offline."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2
import plotly.io
from markupsafe import Markup

from sweeps.plots import interactive
from sweeps.plots.view import StudyView, StudyViews, format_value

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Section:
    """A heading and the figures below it as HTML."""

    title: str
    figures: list[Markup]


def render_page(views: StudyViews) -> str:
    """Render the study page as HTML that includes plotly.js once."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sweeps.plots"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    final = views.final
    return environment.get_template("study.html.j2").render(
        title=final.title,
        results=len(final.results),
        infeasible=len(final.infeasible),
        sections=_sections(views),
        header=["", "trial", *(axis.short_label for axis in final.axes), *final.param_names],
        rows=front_rows(final),
    )


def front_rows(view: StudyView) -> list[list[str]]:
    """Return one table row per trial on the front: rank, number, objectives, and parameters."""
    rows = []
    for point in view.front:
        params = [format_value(point.params[name]) if name in point.params else "" for name in view.param_names]
        rows.append([str(point.rank), str(point.number), *view.value_labels(point), *params])
    return rows


def _sections(views: StudyViews) -> list[Section]:
    figures = {
        "Front" if len(views.final.axes) > 1 else "Progress": interactive.front_figures(views.final),
        "Importance of parameters": [interactive.importance_figure(views.search)],
        "Objectives by parameter": interactive.slice_figures(views.search),
        "All parameters and objectives": [interactive.parallel_figure(views.search)],
    }
    embedded = _embed([figure for group in figures.values() for figure in group if figure is not None])
    sections = [
        Section(title, [next(embedded) for figure in group if figure is not None]) for title, group in figures.items()
    ]
    return [section for section in sections if section.figures]


def _embed(figures: "list[Figure]") -> Iterator[Markup]:
    """Convert figures to HTML. The first one includes plotly.js."""
    for index, figure in enumerate(figures):
        yield Markup(
            plotly.io.to_html(
                figure, include_plotlyjs=index == 0, full_html=False, config={"displaylogo": False, "responsive": True}
            )
        )

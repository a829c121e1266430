"""Plots the shares of votes in a preference study for each question and pair of subjects, as in the paper's Fig. 7."""

import io
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from evaluation.preference.report.summary import Summary
from evaluation.preference.settings import Preference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIRST, _TIE, _SECOND = "#2f6fbb", "#c9c9c9", "#e08a2e"
_LEAST_SHOWN = 0.07  # smaller shares have no room for their number


def draw_figure(settings: Preference, summary: Summary) -> bytes:
    """Return a PNG file with one panel per question and one bar per pair of subjects."""
    count = len(settings.questions)
    height = 1.3 + 0.5 * len(settings.pairs)
    figure, axes = plt.subplots(1, count, figsize=(1.5 + 3.6 * count, height), sharey=True, squeeze=False)
    for axis, question in zip(axes[0], settings.questions, strict=True):
        _draw_panel(axis, settings, summary, question)
    axes[0][0].set_yticks(range(len(settings.pairs)), [_plain(f"{a} vs. {b}") for a, b in settings.pairs])
    axes[0][0].invert_yaxis()
    shares = (("first preferred", _FIRST), ("tie", _TIE), ("second preferred", _SECOND))
    handles = [Patch(color=color) for name, color in shares if name != "tie" or settings.ties]
    labels = [name for name, _ in shares if name != "tie" or settings.ties]
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.32 / height, 1, 1))
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=130)
    plt.close(figure)
    return encoded.getvalue()


def _draw_panel(axis: "Axes", settings: Preference, summary: Summary, question: str) -> None:
    for row, pair in enumerate(settings.pairs):
        rate = summary.win_rates.get((question, pair))
        if rate is None:
            axis.text(0.5, row, "no votes", ha="center", va="center", color="0.4", fontsize=9)
            continue
        total, left = rate.wins + rate.ties + rate.losses, 0.0
        for number, color, ink in (
            (rate.wins, _FIRST, "white"),
            (rate.ties, _TIE, "black"),
            (rate.losses, _SECOND, "black"),
        ):
            share = number / total
            axis.barh(row, share, left=left, height=0.62, color=color)
            if share >= _LEAST_SHOWN:
                axis.text(
                    left + share / 2, row - 0.13, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize=9
                )
            left += share
        if rate.interval is not None:
            low, high = rate.interval
            axis.errorbar(rate.rate, row + 0.18, xerr=[[rate.rate - low], [high - rate.rate]], fmt="o", color="black",
                          markersize=3, capsize=2.5, linewidth=1)  # fmt: skip
    axis.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    axis.set_title(question.capitalize(), fontsize=11)
    axis.set_xlim(0, 1)
    axis.set_ylim(-0.5, len(settings.pairs) - 0.5)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"], fontsize=8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(left=False)


def _plain(text: str) -> str:
    """Escape text for matplotlib, which interprets text between two dollar signs as a formula."""
    return text.replace("$", r"\$")

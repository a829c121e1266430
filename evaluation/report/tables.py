"""Formats results as text tables."""

from tabulate import tabulate

from evaluation.report.results import Report, format_interval, interval


def results_table(report: Report, resamples: int) -> str:
    """Return a table of all scores, with confidence intervals and numbers of images, followed by all notes."""
    rows = [
        (
            result.metric,
            name,
            f"{score.value:.4f}",
            format_interval(interval(result, name, resamples)),
            score.samples,
        )
        for result in report.results
        for name, score in result.scores.items()
    ]
    table = tabulate(
        rows,
        headers=("metric", "score", "value", "95% interval", "images"),
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", "left", "right", "right", "right"),
    )
    notes = dict.fromkeys(f"{result.metric}: {note}" for result in report.results for note in result.notes)
    return "\n".join([table, *(["", *notes] if notes else [])])

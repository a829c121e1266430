"""Writes a study's plots to its folder and uploads them to its MLflow run."""

from collections.abc import Sequence
from pathlib import Path

from sweeps.plots.read import read_views
from sweeps.settings import Sweep
from sweeps.storage.store import Store


def write_plots(sweep: Sweep, store: Store) -> list[Path]:
    """Write the study page (``study.html``) and a PNG of each plot to the study's folder.

    The study may still be running.

    Returns:
        Paths of the files; empty if no trial is complete.
    """
    from pocketdit.files import write_atomically
    from sweeps.plots import static
    from sweeps.plots.importance import importances
    from sweeps.plots.page import render_page

    views = read_views(sweep, store)
    if not views.search.results:
        return []
    figures = {
        "pareto": static.front_figure(views.final),
        "slices": static.slice_figure(views.search),
        "parallel": static.parallel_figure(views.search),
    }
    if by_objective := importances(views.search):
        figures["importance"] = static.importance_figure(views.search, by_objective)
    page = write_atomically(sweep.folder / "study.html", render_page(views))
    return [page, *(static.save(figure, sweep.folder / f"{name}.png") for name, figure in figures.items())]


def publish_plots(sweep: Sweep, files: Sequence[Path]) -> None:
    """Upload files in the study's folder to its MLflow run, if it has one, even if they were uploaded before.

    Raises:
        RunError: MLflow does not respond. ``lightning sync`` can upload the files later.
    """
    from pocketdit.tracking import journal, target
    from pocketdit.tracking.sync import sync
    from sweeps.overrides import flatten, load_experiment

    if target.load(sweep.folder) is None:
        return
    log = journal.Journal(sweep.folder / journal.FILE_NAME)
    for file in files:
        log.log_artifact(str(file.relative_to(sweep.folder)))
    log.close()
    tracking = load_experiment(sweep.base, flatten(sweep.set)).config.tracking
    sync(sweep.folder, tracking.uri)

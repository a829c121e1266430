"""Logs the results of evaluations and preference studies to MLflow."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.report import page, results
from evaluation.settings import Evaluation
from pocketdit.config.experiment import Tracking
from pocketdit.config.secrets import mask
from pocketdit.errors import RunError
from pocketdit.tracking import journal, target
from pocketdit.tracking.git import revision
from pocketdit.tracking.sync import sync, sync_command

_MAX_PARAM = 500  # in characters; MLflow rejects longer values


def track(settings: Evaluation, report: results.Report, folder: Path, tags: Mapping[str, str], start: float) -> None:
    """Log the report of an evaluation, with additional tags. ``start`` is in seconds since the Unix epoch."""
    log_results(
        folder,
        settings.tracking,
        name=f"{settings.evaluation}: {report.subject}",
        tags={"kind": "evaluation", **tags},
        made=report.made,
        metrics=results.summary(report.results),
        files=(page.FILE_NAME, results.FILE_NAME),
        start=start,
    )


def log_results(
    folder: Path,
    tracking: Tracking,
    *,
    name: str,
    tags: Mapping[str, str],
    made: Mapping[str, Mapping[str, object]],
    metrics: Mapping[str, float],
    files: Sequence[str],
    start: float,
) -> None:
    """Log results to the journal in their folder, and send it to MLflow.

    If the server cannot be reached, the results stay in the journal and can be sent later.

    Args:
        folder: Folder of the results.
        tracking: Where MLflow stores the results.
        name: Name of the run in MLflow.
        tags: Tags of the run. The tag "kind" distinguishes the runs of different commands.
        made: Mapping from prefixes to the provenance of images. Its entries are logged as parameters with the prefix.
        metrics: Mapping from metric names to finite values.
        files: Names of the files in the folder that are logged.
        start: When the command started, in seconds since the Unix epoch.
    """
    log = journal.Journal(folder / journal.FILE_NAME)
    log.log_status("RUNNING", start)
    target.open_target(folder, tracking.uri, tracking.project, name)
    for tag, text in tags.items():
        log.log_tag(tag, text)
    if (code := revision(Path(__file__).parent)) is not None:
        log.log_tag("git.commit", code["commit"])
    for prefix, provenance in made.items():
        for key, value in provenance.items():
            log.log_param(f"{prefix}.{key}", str(value)[:_MAX_PARAM])
    log.log_metrics(metrics, step=0)
    for file in files:
        log.log_artifact(file)
    log.log_status("FINISHED")
    log.close()
    try:
        sync(folder, tracking.uri)
    except RunError as error:
        print(f"MLflow: {error}; send the results later with: {sync_command(folder, mask(tracking.uri))}")

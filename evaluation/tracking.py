"""Logs the results of an evaluation to MLflow."""

from collections.abc import Mapping
from pathlib import Path

from evaluation.report import page, results
from evaluation.settings import Evaluation
from pocketdit.config.secrets import mask
from pocketdit.errors import RunError
from pocketdit.tracking import journal, target
from pocketdit.tracking.git import revision
from pocketdit.tracking.sync import sync, sync_command

_MAX_PARAM = 500  # characters; MLflow rejects longer values


def track(settings: Evaluation, report: results.Report, folder: Path, tags: Mapping[str, str], start: float) -> None:
    """Log a report and further tags to the journal in its folder, and send it to MLflow.

    ``start`` is when the evaluation started, in seconds since the Unix epoch.
    If the server cannot be reached, the report stays in the journal and can be sent later.
    """
    log = journal.Journal(folder / journal.FILE_NAME)
    log.log_status("RUNNING", start)
    run_name = f"{settings.evaluation}: {report.subject}"
    target.open_target(folder, settings.tracking.uri, settings.tracking.project, run_name)
    for key, value in {"kind": "evaluation", **tags}.items():
        log.log_tag(key, value)
    if (code := revision(Path(__file__).parent)) is not None:
        log.log_tag("git.commit", code["commit"])
    for name, provenance in report.made.items():
        for key, value in provenance.items():
            log.log_param(f"{name}.{key}", str(value)[:_MAX_PARAM])
    log.log_metrics(results.summary(report.results), step=0)
    for name in (page.FILE_NAME, results.FILE_NAME):
        log.log_artifact(name)
    log.log_status("FINISHED")
    log.close()
    try:
        sync(folder, settings.tracking.uri)
    except RunError as error:
        print(f"MLflow: {error}; send the results later with: {sync_command(folder, mask(settings.tracking.uri))}")

"""The MLflow page that compares the runs of a project, with one row per training run and one column per metric.

MLflow (3.17) stores the state of a shared view, such as its columns, in a tag of the experiment. The URL of the page
contains the key of this view.
"""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any

from pocketdit.errors import RunError

VIEW = "pocketdit"
TAG = f"mlflow.sharedViewState.{VIEW}"
KIND = "kind"  # tag that distinguishes training runs, evaluations, and recipes
TRAINING = "training"
MAX_RUNS = 200
MAX_COLUMNS = 24
# The metrics that people compare first: evaluation scores at each width, followed by losses, sizes and latencies.
SCORE = re.compile(r"[^/]+ [\d.]+x")
OTHERS = (re.compile(r"validation/loss/.*"), re.compile(r"parameters M .*|size MB .*|predicted ms per step .*"))

# Requests to the loopback interface bypass any proxy set in the environment.
web = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def comparison_url(address: str, project: str) -> str:
    """Return the URL of the page that compares the training runs of ``project``, and store its columns on the server.

    If the project does not exist on the server, this is the page that lists the experiments. If the columns cannot be
    stored, the page shows MLflow's default columns.

    Raises:
        RunError: The server does not respond or reports an error.
    """
    address = address.rstrip("/")
    try:
        query = urllib.parse.urlencode({"experiment_name": project})
        found = _request(f"{address}/api/2.0/mlflow/experiments/get-by-name?{query}")
        experiment = str(found["experiment"]["experiment_id"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return f"{address}/#/experiments"
        raise RunError(f"{address} returned an error: {error}") from error
    except OSError as error:
        raise RunError(f"{address} does not respond: {error}") from error
    page = f"{address}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    try:
        state = view_state(columns(metric_names(address, experiment)))
        body = {"experiment_id": experiment, "key": TAG, "value": json.dumps(state)}
        _request(f"{address}/api/2.0/mlflow/experiments/set-experiment-tag", body)
    except OSError:  # for example, the user may have read-only access
        return page
    return f"{page}&viewStateShareKey={VIEW}"


def metric_names(address: str, experiment: str) -> set[str]:
    """Return the names of all metrics of the latest training runs."""
    body = {"experiment_ids": [experiment], "max_results": MAX_RUNS, "filter": f"tags.{KIND} = '{TRAINING}'"}
    runs = _request(f"{address}/api/2.0/mlflow/runs/search", body).get("runs", ())
    return {metric["key"] for run in runs for metric in run["data"].get("metrics", ())}


def columns(metrics: Iterable[str]) -> list[str]:
    """Return the metrics to show, in the order of the columns."""
    names = sorted(metrics)
    others = [[name for name in names if pattern.fullmatch(name)] for pattern in OTHERS]
    scores = [name for name in names if SCORE.fullmatch(name) and name not in others[1]]
    return [*scores, *others[0], *others[1]][:MAX_COLUMNS]


def view_state(metrics: Iterable[str]) -> dict[str, Any]:
    """Return the state of MLflow's table of runs with the given columns."""
    keys = [f"metrics.`{name}`" for name in metrics]
    return {
        "selectedColumns": keys,
        "columnOrder": ["attributes.`Run Name`", "attributes.`Created`", *keys],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "searchFilter": f"tags.{KIND} = '{TRAINING}'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
    }


def _request(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Send a GET request, or a POST request with a body, and return the response."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    with web.open(request, timeout=30) as response:
        result: dict[str, Any] = json.load(response)
        return result

"""Tests for the options ``--plots``, ``--winner``, and ``--dashboard`` of ``lightning sweep``."""

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from pocketdit.commands.main import main
from pocketdit.config.typed import plain
from pocketdit.errors import RunError
from pocketdit.tracking.events import Artifact
from pocketdit.tracking.journal import read_events
from pocketdit.tracking.logger import RunLogger
from pocketdit.tracking.ui import find_free_port
from sweeps.plots.dashboard import serve_dashboard
from sweeps.settings import Sweep
from sweeps.storage.connection import study_names
from sweeps.storage.store import Store
from tests.conftest import PRETRAIN
from tests.sweeps.study import write


@pytest.fixture
def file(sweep: Sweep, tmp_path: Path) -> Path:
    path = tmp_path / "hand.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(plain(sweep), default=str))))
    return path


def test_plots_are_written_and_uploaded_to_the_study_run(
    file: Path, sweep: Sweep, store: Store, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    uri = f"sqlite:///{project / 'runs' / 'mlflow.db'}"  # the tracking database of the base experiment
    logger = RunLogger(sweep.folder, uri, "p")
    logger.log_tag("sweep", sweep.sweep)
    logger.finalize("success")
    assert main(["sweep", str(file), "--plots"]) == 0
    assert f"plot   {sweep.folder / 'study.html'}" in capsys.readouterr().out
    uploaded = [e for e, _ in read_events(sweep.folder / "metrics.jsonl") if isinstance(e, Artifact)]
    client = mlflow.MlflowClient(uri)
    [experiment] = [e for e in client.search_experiments() if e.name == "p"]
    [run] = client.search_runs([experiment.experiment_id])
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"study.html", "pareto.png", "slices.png", "parallel.png"} == {event.path for event in uploaded}


def test_winner_is_written_and_the_next_command_is_printed(
    file: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "winner.yaml"
    assert main(["sweep", str(file), "--winner", "2", "--to", str(to)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{to}: trial 2", f"next   lightning run {to}"]
    assert main(["sweep", str(file), "--winner", "2", "--to", str(to)]) == 2
    note, error = capsys.readouterr().err.splitlines()
    assert note == "hand is not complete yet; this is its current state"
    assert "already exists" in error
    assert main(["run", str(to), "--print-config"]) == 0


@pytest.mark.parametrize("options", [["--plots"], ["--winner"]])
def test_study_whose_settings_have_changed_is_rejected(
    file: Path, sweep: Sweep, store: Store, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.folder.mkdir(parents=True)
    (sweep.folder / "sweep.yaml").write_text(file.read_text())
    assert main(["sweep", str(file), "seed=3", *options]) == 2
    error = capsys.readouterr().err
    assert "seed: hand was started with 0, not 3" in error
    assert error.count("\n") == 1


def test_plotting_an_unknown_study_does_not_create_it(
    file: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """The storage contains another study."""
    assert main(["sweep", str(file), "sweep=never", "--plots"]) == 1
    assert "never has not been started" in capsys.readouterr().err
    assert study_names(store.sweep) == ["hand", "hand/promoted"]


@pytest.mark.parametrize("options", [["--plots"], ["--winner"], ["--dashboard"]])
def test_study_that_has_not_been_started_is_rejected(
    file: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(file), *options]) == 1
    error = capsys.readouterr().err
    assert "has not been started" in error
    assert f"lightning sweep {file}" in error
    assert error.count("\n") == 1


def test_dashboard_serves_the_study_on_loopback(store: Store) -> None:
    port = find_free_port(18080)
    threading.Thread(target=serve_dashboard, args=(store.storage, port), daemon=True).start()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    response: dict[str, Any] = {}
    for _ in range(100):
        try:
            with opener.open(f"http://127.0.0.1:{port}/api/studies", timeout=5) as page:
                response = json.load(page)
            break
        except urllib.error.URLError:
            time.sleep(0.1)
    assert {study["study_name"] for study in response["study_summaries"]} == {"hand", "hand/promoted"}

    foreign = [
        {"Host": "attacker.example"},
        {"Host": f"attacker.example:{port}"},
        {"Origin": "http://attacker.example"},
    ]
    for headers in [*foreign, {"Origin": "null"}, {"Origin": f"http://127.0.0.1:{port + 1}"}]:
        delete = urllib.request.Request(f"http://127.0.0.1:{port}/api/studies/1", headers=headers, method="DELETE")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            opener.open(delete, timeout=5)
    own = urllib.request.Request(f"http://localhost:{port}/api/studies", headers={"Origin": f"http://localhost:{port}"})
    with opener.open(own, timeout=5) as page:
        assert len(json.load(page)["study_summaries"]) == 2


def test_missing_package_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(RunError, match="pip install 'pocketdit\\[many\\]'"):
        serve_dashboard(store.storage)


def test_base_can_be_relative_to_the_sweep_file(
    tmp_path: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(PRETRAIN.read_text())
    changes = {"base": "mine.yaml", "set": {"data.init_args.path": str(scenes), "training.validate_every": 10}}
    file = write(tmp_path, **changes)
    assert main(["sweep", str(file), "--check"]) == 0, capsys.readouterr().err
    assert "no problems found" in capsys.readouterr().out


def test_check_reports_a_missing_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, set={"data.init_args.path": "missing", "training.validate_every": 10})
    assert main(["sweep", str(file), "--check"]) == 2
    assert "missing" in capsys.readouterr().err

"""Tests that one refused event or a damaged database does not prevent the rest of a run from being tracked."""

import json
import logging
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from pocketdit.errors import RunError
from pocketdit.tracking import journal, shipper, target
from pocketdit.tracking.events import Metric, decode, encode
from pocketdit.tracking.journal import Journal
from pocketdit.tracking.logger import RunLogger
from pocketdit.tracking.shipper import count_unsent
from pocketdit.tracking.sync import sync
from tests.conftest import Command


@pytest.fixture
def events(run_folder: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Log five metrics, the third of which the server refuses."""
    target.open_target(run_folder, store, "refused", "pretrain/first")
    events = Journal(run_folder / journal.FILE_NAME)
    for step in range(5):
        events.log_metrics({"refused" if step == 2 else "loss": float(step)}, step)
    monkeypatch.setattr(shipper, "_ATTEMPT_SECONDS", 0.01)
    return events


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception, everything: bool = False) -> None:
    """Make MLflow raise ``error`` for the metric "refused" or, if ``everything`` is True, for all requests."""
    log_batch, set_tag = MlflowClient.log_batch, MlflowClient.set_tag

    def refusing_log_batch(self: Any, run_id: str, metrics: Any, *rest: Any, **named: Any) -> Any:
        if everything or any(metric.key == "refused" for metric in metrics):
            raise error
        return log_batch(self, run_id, metrics, *rest, **named)

    def refusing_set_tag(self: Any, *arguments: Any, **named: Any) -> Any:
        if everything:
            raise error
        return set_tag(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", refusing_log_batch)
    monkeypatch.setattr(MlflowClient, "set_tag", refusing_set_tag)


def test_sync_names_a_refused_event_and_sends_the_rest(
    events: Journal, run_folder: Path, store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(monkeypatch, RuntimeError("413 request entity too large"))
    with caplog.at_level(logging.WARNING):
        assert sync(run_folder, store) == 4
    assert "key='refused'" in caplog.text
    assert "413 request entity too large" in caplog.text
    stored = target.load(run_folder)
    assert stored is not None
    assert stored.run_id is not None
    assert (stored.refused, count_unsent(run_folder)) == (1, 0)
    history = MlflowClient(store).get_metric_history(stored.run_id, "loss")
    assert [metric.step for metric in history] == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("error", "everything"),
    [
        (sqlite3.OperationalError("database or disk is full"), True),
        (OSError(28, "No space left on device"), False),
        (MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE), False),
    ],
)
def test_nothing_is_dropped_when_the_disk_is_full_or_the_database_is_locked(
    events: Journal, run_folder: Path, store: str, monkeypatch: pytest.MonkeyPatch, error: Exception, everything: bool
) -> None:
    refuse(monkeypatch, error, everything)
    with pytest.raises(RunError, match="5 events were not sent"):
        sync(run_folder, store)
    assert count_unsent(run_folder) == 5


def test_a_database_error_is_one_line(store: str, run_folder: Path, tmp_path: Path, command: Command) -> None:
    """MLflow logs database errors with a traceback, unless its log level was set before it was imported."""
    path, source = tmp_path / "m.db", target.sqlite_path(store)
    assert source is not None
    shutil.copy(source, path)
    with sqlite3.connect(path) as database:
        database.execute("create trigger t before insert on metrics begin insert into gone values (1); end")
    (run_folder / "config.yaml").write_text("experiment: x\n")
    target.open_target(run_folder, f"sqlite:///{path}", "p", "r")
    Journal(run_folder / journal.FILE_NAME).log_metrics({"loss": 1.0}, 0)
    result = command("sync", run_folder, "--to", f"sqlite:///{path}")
    assert "no such table: main.gone" in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.parametrize(
    "fields",
    [
        {"step": "7"}, {"step": [1]}, {"step": 10**30}, {"step": -1}, {"step": None}, {"time": float("nan")},
        {"time": "x"}, {"time": 1e300},
        {"key": 3}, {"key": None}, {"value": None}, {"value": [1]}, {"extra": 1},
    ],
)  # fmt: skip
def test_events_with_impossible_fields_are_damaged(fields: dict[str, Any]) -> None:
    event = {"kind": "metric", "key": "loss", "value": 1.0, "step": 3, "time": 5.0}
    assert decode(json.dumps(event).encode()) == Metric("loss", 1.0, 3, 5.0)
    assert decode(json.dumps(event | fields).encode()) is None


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"\xff\xfe", b"null", b'{"kind": []}', b'{"kind": "status", "value": "x", "time": 1}']
)
def test_garbage_is_damaged(line: bytes) -> None:
    assert decode(line) is None


def test_damaged_lines_are_named(events: Journal, run_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with events.path.open("ab") as file:
        file.write(b"garbage\n" + encode(Metric("loss", 5.0, 5, 1.0)) + b"{}\n")
    with caplog.at_level(logging.WARNING):
        resumed = Journal(events.path)
    assert f"{events.path}: 2 damaged lines were ignored; the first is line 6" in caplog.text
    resumed.log_metrics({"loss": 5.0, "other": 1.0}, 5)
    assert journal.read_metrics(events.path)["loss"][-1] == (5, 5.0)


@pytest.fixture
def unfinished(tmp_path: Path) -> str:
    """Return the URI of a database whose creation was interrupted during an MLflow migration."""
    path = tmp_path / "runs" / "mlflow.db"
    path.parent.mkdir(exist_ok=True)
    with sqlite3.connect(path) as database:
        database.execute("create table _alembic_tmp_jobs (id integer)")
    return f"sqlite:///{path}"


def test_an_unfinished_database_is_reported_with_a_remedy(run_folder: Path, unfinished: str, command: Command) -> None:
    target.open_target(run_folder, unfinished, "p", "r")
    Journal(run_folder / journal.FILE_NAME).log_metrics({"loss": 1.0}, 0)
    with pytest.raises(RunError, match=r"mlflow\.db is damaged or incomplete .*; move it elsewhere") as raised:
        sync(run_folder, unfinished)
    assert len(str(raised.value).splitlines()) == 1
    path = target.sqlite_path(unfinished)
    assert path is not None
    path.rename(path.with_name("moved.db"))
    (run_folder / "config.yaml").write_text("experiment: x\n")
    assert "1 event sent" in command("sync", run_folder, "--to", unfinished).stdout


def test_a_run_with_an_unfinished_database_says_why_nothing_was_sent(
    run_folder: Path, unfinished: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = RunLogger(run_folder, unfinished, "p")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    assert "mlflow.db is damaged or incomplete" in capsys.readouterr().err
    assert journal.read_metrics(run_folder / journal.FILE_NAME)["loss"] == [(0, 1.0)]

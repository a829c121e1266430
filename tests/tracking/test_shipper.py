import logging
import multiprocessing
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image as PILImage

from pocketdit.errors import RunError
from pocketdit.tracking import mlflow_run, shipper, target
from pocketdit.tracking.events import Artifact, Image, Metric, Status, encode
from pocketdit.tracking.journal import Journal, read_events
from pocketdit.tracking.shipper import Sender, Shipper, count_unsent, read_batches
from pocketdit.tracking.sync import sync


@pytest.fixture
def journal(run_folder: Path, store: str) -> Journal:
    target.open_target(run_folder, store, "shipper", "pretrain/first")
    return Journal(run_folder / "metrics.jsonl")


def run_id(run_folder: Path) -> str:
    stored = target.load(run_folder)
    assert stored is not None
    assert stored.run_id is not None
    return stored.run_id


def history(store: str, run_folder: Path, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in MlflowClient(store).get_metric_history(run_id(run_folder), key)]


def test_batches_contain_every_event_once_within_mlflow_limits(journal: Journal) -> None:
    for index in range(350):
        journal.log_param(f"param{index}", "x" * 6000)
        journal.log_tag(f"tag{index}", "y" * 8000)
    for step in range(250):
        journal.log_metrics({f"m{index}": 1.0 for index in range(10)}, step)
    journal.log_artifact("a")
    journal.log_artifact("b")
    journal.log_status("FINISHED")
    journal.log_metrics({"late": 1.0}, 0)

    sent, offset = [], 0
    for events, next_offset in read_batches(journal.path, 0):
        count = sum(isinstance(event, Metric) for event in events)
        assert count <= 1000
        assert len(events) - count <= 100
        assert sum(len(encode(event)) for event in events) < 1_000_000
        assert len(events) == 1 or not any(isinstance(event, Image | Artifact | Status) for event in events)
        assert next_offset > offset
        sent += events
        offset = next_offset
    assert sent == [event for event, _ in read_events(journal.path)]
    assert offset == journal.path.stat().st_size


def test_damaged_lines_at_the_end_are_skipped(journal: Journal) -> None:
    journal.log_metrics({"loss": 1.0}, 0)
    with journal.path.open("ab") as file:
        file.write(b"damaged\n")
    assert list(read_batches(journal.path, 0))[-1][1] == journal.path.stat().st_size


def test_sending_twice_changes_nothing(journal: Journal, run_folder: Path, store: str) -> None:
    (run_folder / "samples").mkdir()
    PILImage.new("RGB", (300, 100), "red").save(run_folder / "samples" / "7.png")
    (run_folder / "weights").write_bytes(b"w")
    journal.log_param("lr", "0.1")
    for step in range(50):
        journal.log_metrics({"loss": step / 7, "nan": float("nan")}, step)
    journal.log_image("samples/0.5", "samples/7.png", 7)
    journal.log_artifact("weights", "model")
    journal.log_status("FINISHED")
    client = MlflowClient(store)

    def recorded() -> object:
        number = run_id(run_folder)
        run = client.get_run(number)
        files = [file.path for folder in ("images", "model") for file in client.list_artifacts(number, folder)]
        metrics = [(m.step, m.value, m.timestamp) for m in client.get_metric_history(number, "loss")]
        nans = len(client.get_metric_history(number, "nan"))
        return (
            metrics,
            nans,
            sorted(files),
            run.data.params,
            run.data.tags,
            run.info.status,
            run.info.end_time,
        )

    Sender(run_folder).send_all()
    assert count_unsent(run_folder) == 0
    before = recorded()
    stored = target.load(run_folder)
    assert stored is not None
    assert history(store, run_folder, "loss") == [(step, step / 7) for step in range(50)]
    target.save(run_folder, replace(stored, offset=0))
    Sender(run_folder).send_all()
    assert recorded() == before
    target.save(run_folder, stored.reset())  # simulate that the response to creating the run was lost
    Sender(run_folder).send_all()
    assert run_id(run_folder) == stored.run_id
    assert recorded() == before


def test_rejected_event_does_not_block_others(
    journal: Journal, run_folder: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in range(20):
        journal.log_metrics({"loss@half, %": float(step)}, step)
        if step == 10:
            journal.log_metrics({"a//b": 1.0}, step)
            journal.log_artifact("missing")
    with caplog.at_level(logging.WARNING):
        Sender(run_folder).send_all()
    assert count_unsent(run_folder) == 0
    assert [step for step, _ in history(store, run_folder, "loss_half_ _")] == list(range(20))
    stored = target.load(run_folder)
    assert stored is not None
    assert stored.refused == 2
    assert "a//b" in caplog.text
    assert "missing" in caplog.text


def test_sender_gives_up_on_a_file_after_three_failed_attempts(
    journal: Journal, run_folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "_ATTEMPT_SECONDS", 0.01)
    (run_folder / "weights").write_bytes(b"w")
    journal.log_artifact("weights")
    sender = Sender(run_folder)
    sender.send_all()
    journal.log_artifact("weights", "weights/deeper")  # fails, because "weights" is a file in MLflow
    journal.log_metrics({"loss": 1.0}, 0)
    assert sender.send_all() == 1
    assert count_unsent(run_folder) == 0
    assert history(store, run_folder, "loss") == [(0, 1.0)]


def test_run_deleted_in_mlflow_is_created_again_in_full(journal: Journal, run_folder: Path, store: str) -> None:
    journal.log_metrics({"loss": 1.0}, 0)
    shipper = Shipper(run_folder)
    shipper.start()
    while count_unsent(run_folder):
        time.sleep(0.05)
    before = run_id(run_folder)
    MlflowClient(store).delete_run(before)
    journal.log_metrics({"loss": 2.0}, 1)
    while run_id(run_folder) == before:
        time.sleep(0.1)
    assert shipper.close(timeout=20) == 0
    assert history(store, run_folder, "loss") == [(0, 1.0), (1, 2.0)]

    MlflowClient(store).delete_run(run_id(run_folder))
    assert sync(run_folder, store) == 2
    assert history(store, run_folder, "loss") == [(0, 1.0), (1, 2.0)]


def test_deleted_project_is_restored_with_its_runs(journal: Journal, run_folder: Path, store: str) -> None:
    stored = target.open_target(run_folder, store, "deleted project", "run")
    journal.log_metrics({"loss": 1.0}, 0)
    sync(run_folder, store)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(stored.project)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    journal.log_metrics({"loss": 2.0}, 1)
    sync(run_folder, store)
    assert history(store, run_folder, "loss") == [(0, 1.0), (1, 2.0)]


def test_sync_returns_the_number_sent_and_reports_errors(journal: Journal, run_folder: Path, store: str) -> None:
    with pytest.raises(RunError, match=r"not the folder of a tracked run: it does not contain tracking\.json"):
        sync(run_folder.parent)
    for step in range(5):
        journal.log_metrics({"loss": 1.0}, step)
    assert sync(run_folder, store) == 5
    assert sync(run_folder, store) == 0
    target.open_target(run_folder, "http://127.0.0.1:9", "shipper", "run")
    with pytest.raises(RunError, match=r"^5 events were not sent to http://127\.0\.0\.1:9: .*refused"):
        sync(run_folder, "http://127.0.0.1:9")


def test_replaced_journal_is_sent_from_its_start(journal: Journal, run_folder: Path, store: str) -> None:
    for step in range(5):
        journal.log_metrics({"loss": 1.0}, step)
    sync(run_folder, store)
    journal.path.unlink()
    Journal(journal.path).log_metrics({"loss": 2.0}, 5)
    sync(run_folder, store)
    assert (5, 2.0) in history(store, run_folder, "loss")


def test_fork_waits_until_no_thread_is_importing_mlflow() -> None:
    """If a child process were forked during an import, it would wait forever for the lock of this import."""
    holding, released = threading.Event(), threading.Event()

    def import_slowly() -> None:
        with mlflow_run._importing:
            holding.set()
            time.sleep(0.5)
            released.set()

    threading.Thread(target=import_slowly).start()
    holding.wait()
    child = multiprocessing.get_context("fork").Process(target=_import_in_a_thread)
    child.start()
    assert released.is_set()
    child.join(10)
    assert child.exitcode == 0


def _import_in_a_thread() -> None:
    thread = threading.Thread(target=_acquire, daemon=True)
    thread.start()
    thread.join(5)
    sys.exit(thread.is_alive())


def _acquire() -> None:
    with mlflow_run._importing:
        pass

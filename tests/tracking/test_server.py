import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from pocketdit.tracking import target
from pocketdit.tracking.logger import RunLogger
from pocketdit.tracking.shipper import unsent
from pocketdit.tracking.sync import sync
from pocketdit.tracking.ui import free_port


class Server:
    """A real MLflow server on loopback that can be killed and started again."""

    def __init__(self, store: str, artifacts: Path) -> None:
        self.store, self.artifacts = store, artifacts
        self.port = free_port(5600)
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.store),
                *("--artifacts-destination", str(self.artifacts), "--host", "127.0.0.1"),
                *("--port", str(self.port), "--workers", "1"),
            ],
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(self._answers, seconds=100)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.uri}/health", timeout=1):
                return True
        except OSError:
            return False


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} seconds"
        time.sleep(0.2)


@pytest.fixture
def server(store: str, tmp_path: Path) -> Iterator[Server]:
    server = Server(store, tmp_path / "artifacts")
    server.start()
    yield server
    server.kill()


def test_every_metric_arrives_once_through_a_server_that_dies_and_comes_back(
    server: Server, store: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_folder / "samples").mkdir()
    Image.new("RGB", (64, 32), "blue").save(run_folder / "samples" / "10.png")
    logger = RunLogger(run_folder, server.uri, "server")
    logger.log_hyperparams({"lr": 0.1})

    def log(first: int, last: int) -> None:
        for step in range(first, last):
            logger.log_metrics({"loss": step / 3, "rate": -step / 7}, step)
            time.sleep(0.001)

    log(0, 3000)
    logger.log_image("samples", run_folder / "samples" / "10.png", 10)
    wait_for(lambda: unsent(run_folder) < 5000, seconds=60)
    server.kill()  # with events on their way and events still to come
    log(3000, 6000)
    wait_for(lambda: logger._shipper is not None and logger._shipper.error is not None, seconds=60)

    # A second run begins and ends while the server is dead.
    second = run_folder.parent / "second"
    other = RunLogger(second, server.uri, "server")
    for step in range(10):
        other.log_metrics({"loss": float(step)}, step)
    other.finalize("success")
    count = unsent(second)
    assert f"{count} events not sent to {server.uri}" in capsys.readouterr().err

    server.start()
    log(6000, 7000)
    logger.finalize("success")
    assert capsys.readouterr().err == ""
    assert sync(second) == count

    client = MlflowClient(server.uri)
    stored = target.load(run_folder)
    assert stored is not None and stored.run_id is not None
    for key, divisor in (("loss", 3), ("rate", -7)):
        sent = [(m.step, m.value) for m in client.get_metric_history(stored.run_id, key)]
        assert sent == [(step, step / divisor) for step in range(7000)]
    run = client.get_run(stored.run_id)
    assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "0.1"})
    assert len(client.list_artifacts(stored.run_id, "images")) == 2
    experiment = client.get_experiment_by_name("server")
    assert experiment is not None
    names = sorted(run.info.run_name or "" for run in client.search_runs([experiment.experiment_id]))
    assert names == ["pretrain/first", "pretrain/second"]

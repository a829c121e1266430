import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from pocketdit.tracking import target
from pocketdit.tracking.logger import RunLogger
from pocketdit.tracking.shipper import count_unsent
from pocketdit.tracking.sync import sync
from pocketdit.tracking.ui import find_free_port
from tests.tracking.conftest import StartProcess

RUN_MLFLOW = """
import runpy
sys.argv = ["mlflow", *sys.argv[1:]]
runpy.run_module("mlflow", run_name="__main__")
"""


class Server:
    """A real MLflow server on the loopback interface, which can be killed and restarted."""

    def __init__(self, store: str, artifacts: Path, start_process: StartProcess) -> None:
        self.store, self.artifacts = store, artifacts
        self.port = find_free_port(5600)
        self.uri = f"http://127.0.0.1:{self.port}"
        self._start_process = start_process
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = self._start_process(
            RUN_MLFLOW, "server", "--backend-store-uri", self.store, "--artifacts-destination", str(self.artifacts),
            "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(self._responds, seconds=100)

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _responds(self) -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.uri}/health", timeout=1):
                return True
        except OSError:
            return False


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"condition not met within {seconds} seconds"
        time.sleep(0.2)


@pytest.fixture
def server(store: str, tmp_path: Path, start_process: StartProcess) -> Server:
    server = Server(store, tmp_path / "artifacts", start_process)
    server.start()
    return server


@pytest.mark.slow
def test_every_metric_arrives_once_when_the_server_is_killed_and_restarted(
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
    wait_for(lambda: count_unsent(run_folder) < 5000, seconds=60)
    server.kill()  # some events are in flight, and others have not been logged yet
    log(3000, 6000)
    wait_for(lambda: logger._shipper is not None and logger._shipper.error is not None, seconds=60)

    # A second run starts and finishes while the server is down.
    second = run_folder.parent / "second"
    other = RunLogger(second, server.uri, "server")
    for step in range(10):
        other.log_metrics({"loss": float(step)}, step)
    other.finalize("success")
    count = count_unsent(second)
    assert f"{count} events were not sent to {server.uri}" in capsys.readouterr().err

    server.start()
    log(6000, 7000)
    logger.finalize("success")
    assert capsys.readouterr().err == ""
    assert sync(second, server.uri) == count

    client = MlflowClient(server.uri)
    stored = target.load(run_folder)
    assert stored is not None
    assert stored.run_id is not None
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

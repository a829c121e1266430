"""Launchers and the worker pool, without real workers."""

from pathlib import Path

import pytest

from pocketdit.errors import ConfigError, RunError
from sweeps.engine import study, worker_pool
from sweeps.engine.launchers import gpu_environment
from sweeps.engine.worker_pool import WorkerPool
from tests.sweeps.study import loaded, no_plots


class DeadLauncher:
    """A launcher whose workers exit immediately."""

    def start(self, index: int) -> None: ...

    def is_alive(self, index: int) -> bool:
        return False

    def stop(self) -> None: ...


def restart_repeatedly(pool: WorkerPool) -> None:
    for _ in range(30):
        pool.restart_missing()


def test_worker_that_keeps_exiting_early_ends_the_study(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="worker 0 exited 10 times in a row"):
        restart_repeatedly(WorkerPool(DeadLauncher(), 1, tmp_path))


def test_worker_that_exits_late_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "EARLY_SECONDS", 0.0)
    restart_repeatedly(WorkerPool(DeadLauncher(), 1, tmp_path))


def test_gpus_are_assigned_to_workers_in_turn() -> None:
    assert [gpu_environment(i, ["2", "5"])["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["2", "5", "2"]
    assert gpu_environment(0, []) == {}


def test_workers_on_other_machines_cannot_share_a_sqlite_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use a PostgreSQL URL"):
        study.run(loaded(tmp_path, launcher={"kind": "ray"}), no_plots)

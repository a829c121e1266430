"""Tests for launchers and the worker pool, without real workers."""

import sys
from pathlib import Path
from typing import Any

import pytest

from pocketdit.commands.main import main
from pocketdit.errors import ConfigError, RunError
from sweeps.engine import study, worker_pool
from sweeps.engine.launchers import build_launcher, gpu_environment
from sweeps.engine.worker_pool import WorkerPool
from sweeps.storage.connection import open_storage
from tests.sweeps.study import loaded, no_plots, write


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


@pytest.mark.parametrize(("kind", "module"), [("ray", "ray"), ("slurm", "submitit"), ("ray", "psycopg2")])
def test_a_missing_package_is_reported_with_its_extra(
    kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # the import fails as if the package were not installed
    sweep = loaded(tmp_path, launcher={"kind": kind}, storage="postgresql+psycopg2://me@127.0.0.1:1/x").config
    with pytest.raises(ConfigError, match=r"pip install 'pocketdit\[many\]'$"):
        open_storage(sweep) if module == "psycopg2" else build_launcher(sweep, tmp_path / "sweep.yaml")


POSTGRES = "postgresql+psycopg2://me@127.0.0.1:1/x"


@pytest.mark.parametrize(
    ("launcher", "storage", "message"),
    [
        ({"kind": "slurm"}, "", "storage: workers on other machines cannot share sqlite"),
        ({"kind": "slurm", "parameters": {"foo": "gpu"}}, POSTGRES, "launcher.parameters: Parameter 'foo' need"),
        ({"kind": "slurm", "parameters": {"slurm_foo": 1}}, POSTGRES, "launcher.parameters: Unknown argument 'foo'"),
        (
            {"kind": "slurm", "parameters": {"timeout_min": "x"}},
            POSTGRES,
            'launcher.parameters: Parameter "timeout_min',
        ),
        ({"kind": "processes"}, "nosql://x", "storage: nosql://x: Can't load plugin"),
        ({"kind": "processes"}, "not a url", "storage: not a url: Could not parse SQLAlchemy URL"),
    ],
)
def test_check_reports_a_wrong_launcher_or_storage(
    launcher: dict[str, Any], storage: str, message: str, tmp_path: Path, scenes: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Neither check needs a cluster or a database."""
    path = write(tmp_path, launcher=launcher, storage=storage)
    command = ["sweep", str(path), "--check", f"set={{data.init_args.path: {scenes}, training.validate_every: 10}}"]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    valid = {
        "kind": "slurm",
        "parameters": {"timeout_min": 5, "slurm_partition": "gpu", "slurm_setup": ["module load"]},
    }
    write(tmp_path, launcher=valid, storage=POSTGRES)
    assert main(command) == 0

"""Launchers, which run workers as processes on this machine, actors on a Ray cluster, or SLURM jobs."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, assert_never

from typing_extensions import override

from pocketdit.errors import ConfigError, RunError
from sweeps.engine.worker import work, work_on
from sweeps.engine.worker_pool import Launcher
from sweeps.settings import Processes, Ray, Slurm, Sweep

STOP_SECONDS = 60


def build_launcher(sweep: Sweep, settings: Path) -> Launcher:
    """Build the study's launcher.

    Args:
        sweep: The study's settings.
        settings: YAML file with the study's resolved settings, which worker processes read.

    Raises:
        ConfigError: The workers cannot share the storage, or a required package is not installed.
        RunError: The Ray cluster does not respond.
    """
    require_launcher(sweep)
    match sweep.launcher:
        case Processes():
            return ProcessLauncher(sweep, settings)
        case Ray():
            return RayLauncher(sweep, sweep.launcher)
        case Slurm():
            return SlurmLauncher(sweep, sweep.launcher, settings)
        case _:
            assert_never(sweep.launcher)


def require_launcher(sweep: Sweep) -> None:
    """Check the settings of the launcher without connecting to a cluster.

    Raises:
        ConfigError: The workers cannot share the storage, a required package is not installed, or submitit does not
            know a parameter.
    """
    if isinstance(sweep.launcher, Processes):
        return
    if sweep.url.startswith("sqlite"):
        raise ConfigError(
            f"storage: workers on other machines cannot share {sweep.url}; use a PostgreSQL URL: "
            "storage=postgresql+psycopg2://USER@HOST/DATABASE"
        )
    package = "ray" if isinstance(sweep.launcher, Ray) else "submitit"
    if find_spec(package) is None:
        raise ConfigError(
            f"launcher: kind {sweep.launcher.kind} needs {package}; install it with: pip install 'pocketdit[many]'"
        )
    if isinstance(sweep.launcher, Slurm):
        import submitit

        executor = submitit.AutoExecutor(folder=sweep.folder / "jobs", cluster="debug")
        try:
            executor.update_parameters(**sweep.launcher.parameters)
        except (AssertionError, NameError, TypeError) as error:
            raise ConfigError(f"launcher.parameters: {str(error).splitlines()[0]}") from None


class ProcessLauncher(Launcher):
    """Starts workers as processes that share this machine's cores and write to ``worker-INDEX.log``."""

    def __init__(self, sweep: Sweep, settings: Path) -> None:
        self.settings = settings
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        threads = str(max(1, (os.cpu_count() or 1) // sweep.workers))
        # With more threads than cores, the processes would compete for cores and run many times slower.
        self.environment = {"OMP_NUM_THREADS": threads} | os.environ
        self.gpus = visible_gpus() if sweep.workers > 1 else []

    @override
    def start(self, index: int) -> None:
        with (self.settings.parent / "log" / f"worker-{index}.log").open("ab") as log:
            self.workers[index] = subprocess.Popen(
                # With -P, a folder named sweeps in the working directory does not shadow this package.
                [sys.executable, "-P", "-m", "sweeps.engine.worker", str(self.settings), str(index)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment | gpu_environment(index, self.gpus),
            )

    @override
    def is_alive(self, index: int) -> bool:
        return self.workers[index].poll() is None

    @override
    def stop(self) -> None:
        for worker in self.workers.values():
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)
        for worker in self.workers.values():
            try:
                worker.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def visible_gpus() -> list[str]:
    """Return the entries of CUDA_VISIBLE_DEVICES, or the indices of all GPUs if it is not set."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]


def gpu_environment(index: int, gpus: list[str]) -> dict[str, str]:
    """Return the environment variable that assigns a GPU to a worker. If there are too few GPUs, workers share them."""
    return {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}


class RayLauncher(Launcher):
    """Starts workers as Ray actors. Ray restarts an actor whose process dies, on another node if necessary."""

    def __init__(self, sweep: Sweep, spec: Ray) -> None:
        import ray

        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        local = {"num_cpus": max(1, round(spec.cpus * sweep.workers)), "include_dashboard": False}
        try:
            ray.init(**({"address": spec.address} if spec.address else local), log_to_driver=False)
        except ConnectionError as error:
            raise RunError(
                f"launcher: the Ray cluster at {spec.address} does not respond: {str(error).splitlines()[0]}"
            ) from None

        class Actor:
            def work(self, index: int, folder: Path) -> None:
                work(sweep, index, folder)

        resources = {"num_cpus": spec.cpus, "num_gpus": spec.gpus, "max_restarts": -1, "max_task_retries": -1}
        self.ray: Any = ray
        self.actor: Any = ray.remote(**resources)(Actor)
        self.workers: dict[int, tuple[Any, Any]] = {}

    @override
    def start(self, index: int) -> None:
        actor = self.actor.remote()
        self.workers[index] = (actor, actor.work.remote(index, Path.cwd()))

    @override
    def is_alive(self, index: int) -> bool:
        done, _ = self.ray.wait([self.workers[index][1]], timeout=0)
        return not done

    @override
    def stop(self) -> None:
        # Workers exit on their own once the study is closed. If the study is interrupted, their trials return to the
        # queue because their heartbeats stop.
        self.ray.wait([task for _, task in self.workers.values()], num_returns=len(self.workers), timeout=5)
        self.ray.shutdown()


class SlurmLauncher(Launcher):
    """Submits workers as SLURM jobs with submitit, which can also run them on this machine for testing.

    submitit stores a job's arguments in a file, so they contain the path of the settings instead of the settings
    themselves, which may include a password.
    """

    def __init__(self, sweep: Sweep, spec: Slurm, settings: Path) -> None:
        import submitit

        self.settings = settings.absolute()
        try:
            self.executor = submitit.AutoExecutor(folder=sweep.folder / "jobs", cluster=spec.cluster)
        except RuntimeError as error:  # this machine has no SLURM
            raise ConfigError(f"launcher.cluster: {str(error).splitlines()[0]}") from None
        self.executor.update_parameters(**{"name": f"sweep-{sweep.sweep}", **spec.parameters})
        self.jobs: dict[int, Any] = {}

    @override
    def start(self, index: int) -> None:
        self.jobs[index] = self.executor.submit(work_on, self.settings, index, Path.cwd())

    @override
    def is_alive(self, index: int) -> bool:
        return not self.jobs[index].done()

    @override
    def stop(self) -> None:
        for job in self.jobs.values():
            if not job.done():
                job.cancel()

"""Where workers run: processes here, actors on a Ray cluster, SLURM jobs. None of them knows about trials: the storage
is the queue, and a launcher only starts workers and starts another in the place of one that is gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, assert_never

from pocketdit.errors import ConfigError, RunError
from sweeps.settings import Processes, Ray, Slurm, Sweep

STOP_SECONDS = 60
# So often in a row a worker may leave soon: then it is the code or the machine that is wrong, not the single worker.
MOST_STARTS = 10
SOON_SECONDS = 60.0


class Launcher(Protocol):
    """Workers by index."""

    def start(self, index: int) -> None:
        """Start a worker, or another in its place."""

    def alive(self, index: int) -> bool: ...

    def stop(self) -> None:
        """End all; they hand back the trials that they have."""


class Crew:
    """Keeps so many workers at work, however they run."""

    def __init__(self, launcher: Launcher, size: int, log: Path) -> None:
        self.launcher, self.log = launcher, log
        self.size = size
        self.begun: dict[int, float] = {}
        self.left_soon = dict.fromkeys(range(size), 0)

    def keep(self) -> None:
        """Start those that are not there. Raises ``RunError`` where one leaves again and again."""
        for index in range(self.size):
            if index in self.begun:
                if self.launcher.alive(index):
                    continue
                soon = time.monotonic() - self.begun[index] < SOON_SECONDS
                self.left_soon[index] = self.left_soon[index] + 1 if soon else 0
            if self.left_soon[index] == MOST_STARTS:
                raise RunError(f"worker {index} ended {MOST_STARTS} times in a row, each within {SOON_SECONDS:g} s; "
                               f"it says why in {self.log}")  # fmt: skip
            self.launcher.start(index)
            self.begun[index] = time.monotonic()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self.launcher.stop()


def launcher_for(sweep: Sweep, settings: Path) -> Launcher:
    """``settings``: the study's resolved YAML. ``ConfigError`` where the storage cannot serve such workers."""
    if not isinstance(sweep.launcher, Processes) and sweep.url.startswith("sqlite"):
        raise ConfigError(
            f"storage: workers on other machines cannot share {sweep.url}: give a PostgreSQL address, "
            "storage=postgresql+psycopg2://USER@HOST/DATABASE"
        )
    match sweep.launcher:
        case Processes():
            return ProcessLauncher(sweep, settings)
        case Ray():
            return RayLauncher(sweep, sweep.launcher)
        case Slurm():
            return SlurmLauncher(sweep, sweep.launcher)
        case _:
            assert_never(sweep.launcher)


class ProcessLauncher:
    """Processes of this machine, which share its cores. What they say goes to ``worker-INDEX.log``."""

    def __init__(self, sweep: Sweep, settings: Path) -> None:
        self.settings = settings
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        threads = str(max(1, (os.cpu_count() or 1) // sweep.workers))
        # Threads of two processes that share cores wait for each other: computing becomes many times slower.
        self.environment = {"OMP_NUM_THREADS": threads} | os.environ
        self.gpus = visible_gpus() if sweep.workers > 1 else []

    def start(self, index: int) -> None:
        with (self.settings.parent / "log" / f"worker-{index}.log").open("ab") as log:
            self.workers[index] = subprocess.Popen(
                [sys.executable, "-m", "sweeps.worker", str(self.settings), str(index)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment | gpu_for(index, self.gpus),
            )

    def alive(self, index: int) -> bool:
        return self.workers[index].poll() is None

    def stop(self) -> None:
        for worker in self.workers.values():
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)
        _wait(self.workers.values())


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES names, or would name."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(index) for index in range(torch.cuda.device_count())]


def gpu_for(index: int, gpus: list[str]) -> dict[str, str]:
    """One GPU for each worker, in turn where there are more workers."""
    return {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}


def _wait(workers: Iterable["subprocess.Popen[bytes]"]) -> None:
    for worker in workers:
        try:
            worker.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


class RayLauncher:
    """Ray actors. Ray itself restarts one whose process dies, on another node where its own is gone."""

    def __init__(self, sweep: Sweep, spec: Ray) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise ConfigError("launcher: kind ray needs Ray: pip install 'ray>=2.60,<2.61'") from None
        from sweeps.worker import work

        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        local = {"num_cpus": max(1, round(spec.cpus * sweep.workers)), "include_dashboard": False}
        try:
            ray.init(**({"address": spec.address} if spec.address else local), log_to_driver=False)
        except ConnectionError as error:
            raise RunError(f"launcher: no Ray cluster at {spec.address}: {str(error).splitlines()[0]}") from None

        class Actor:
            def work(self, index: int, folder: Path) -> None:
                work(sweep, index, folder)

        needs = {"num_cpus": spec.cpus, "num_gpus": spec.gpus, "max_restarts": -1, "max_task_retries": -1}
        self.ray: Any = ray
        self.actor: Any = ray.remote(**needs)(Actor)
        self.workers: dict[int, tuple[Any, Any]] = {}

    def start(self, index: int) -> None:
        actor = self.actor.remote()
        self.workers[index] = (actor, actor.work.remote(index, Path.cwd()))

    def alive(self, index: int) -> bool:
        done, _ = self.ray.wait([self.workers[index][1]], timeout=0)
        return not done

    def stop(self) -> None:
        # Workers leave by themselves once the study is closed; on a stop in between the heartbeat finds their trials.
        self.ray.wait([task for _, task in self.workers.values()], num_returns=len(self.workers), timeout=5)
        self.ray.shutdown()


class SlurmLauncher:
    """Jobs by submitit: in the queue of a SLURM cluster, or processes of this machine for a trial of the set-up."""

    def __init__(self, sweep: Sweep, spec: Slurm) -> None:
        try:
            import submitit
        except ModuleNotFoundError:
            raise ConfigError("launcher: kind slurm needs submitit: pip install submitit") from None
        self.sweep = sweep
        try:
            self.executor = submitit.AutoExecutor(folder=sweep.folder / "jobs", cluster=spec.cluster)
            self.executor.update_parameters(name=f"sweep-{sweep.sweep}", **spec.parameters)
        except (RuntimeError, NameError, TypeError) as error:
            raise ConfigError(f"launcher.parameters: {str(error).splitlines()[0]}") from None
        self.jobs: dict[int, Any] = {}

    def start(self, index: int) -> None:
        from sweeps.worker import work

        self.jobs[index] = self.executor.submit(work, self.sweep, index, Path.cwd())

    def alive(self, index: int) -> bool:
        return not self.jobs[index].done()

    def stop(self) -> None:
        for job in self.jobs.values():
            if not job.done():
                job.cancel()

"""Encodes shards on a Ray cluster, with one actor per GPU or, on a cluster without GPUs, per CPU."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datamodules.encoding.job import EncodeJob, Task
from datamodules.encoding.worker import EncodeWorker
from pocketdit.errors import ConfigError, RunError

LOCAL = "local"


class RayTeam:
    """A team of Ray actors.

    If an actor's process dies, Ray restarts the actor, if necessary on another node, and its shard is encoded again.

    Args:
        job: What to encode. The folders must have the same paths on all nodes.
        address: Address of the cluster, or "local" to start a cluster on this machine.
        processes: Number of actors. None means one per GPU or, on a cluster without GPUs, one per CPU.

    Raises:
        ConfigError: Ray is not installed.
        RunError: The cluster does not respond.
    """

    def __init__(self, job: EncodeJob, address: str = LOCAL, processes: int | None = None) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise ConfigError("--ray: needs Ray; install it with: pip install 'pocketdit[many]'") from None
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        local = {"include_dashboard": False, "num_cpus": processes}
        try:
            ray.init(**(local if address == LOCAL else {"address": address}), log_to_driver=False)
        except ConnectionError as error:
            raise RunError(f"--ray {address}: the cluster does not respond: {str(error).splitlines()[0]}") from None
        self._ray: Any = ray
        available = ray.cluster_resources()
        gpus = int(available.get("GPU", 0))
        self._count = processes or gpus or int(available.get("CPU", 1))
        resources = {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": 1}
        self._actor: Any = ray.remote(**resources, max_restarts=-1, max_task_retries=-1)(_Actor)
        self._job = job
        self._actors = [self._start()]

    def _start(self) -> Any:
        return self._actor.remote(self._job, Path.cwd())

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the contents of the shards."""
        plan: dict[str, Any] = self._result(self._actors[0].describe.remote())
        return plan

    def encode(self, tasks: Sequence[Task], show: Callable[[int], None]) -> None:
        """Encode the shards. Each actor takes the next shard as soon as it is free.

        Raises:
            ConfigError: The encoders or the source of an actor differ from those of the first actor.
            RunError: An actor has failed.
        """
        plan = self.describe()
        self._actors += [self._start() for _ in range(min(self._count, len(tasks)) - 1)]
        waiting, done = list(reversed(tasks)), 0
        busy = {actor.encode.remote(waiting.pop(), plan): actor for actor in self._actors if waiting}
        while busy:
            finished, _ = self._ray.wait(list(busy))
            for reference in finished:
                actor = busy.pop(reference)
                done += self._result(reference)
                show(done)
                if waiting:
                    busy[actor.encode.remote(waiting.pop(), plan)] = actor

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def close(self) -> None:
        """Disconnect from the cluster, which stops the actors."""
        self._ray.shutdown()


class _Actor:
    def __init__(self, job: EncodeJob, folder: Path) -> None:
        os.chdir(folder)  # the job may contain relative paths
        self._worker = EncodeWorker(job)

    def describe(self) -> dict[str, Any]:
        return self._worker.describe()

    def encode(self, task: Task, plan: dict[str, Any]) -> int:
        if plan != self._worker.describe():
            raise ConfigError("--ray: the data set or the encoders differ between the nodes")
        images = 0

        def progress(count: int) -> None:
            nonlocal images
            images += count

        self._worker.encode(task, progress)
        return images

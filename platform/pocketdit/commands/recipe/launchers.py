"""Launchers, which run the commands of tasks as processes on this machine or as SLURM jobs."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, assert_never

from pocketdit.commands.recipe.settings import Local, Recipe, Slurm
from pocketdit.errors import ConfigError
from pocketdit.files import write_atomically

STOP_SECONDS = 60
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


class Launcher(Protocol):
    """Runs the tasks' commands.

    Attributes:
        jobs: Number of tasks that can run at the same time.
    """

    jobs: int

    def start(self, task: str, words: Sequence[str]) -> None:
        """Start a task's command. ``words`` are the arguments of ``lightning``."""
        ...

    def status(self, task: str) -> int | None:
        """Return the exit status of a task's command, or None while it runs."""
        ...

    def log(self, task: str) -> Path | None:
        """Return the file that contains the output of a task's command, or None if it is printed."""
        ...

    def stop(self) -> None:
        """Stop all running commands."""
        ...


def build_launcher(recipe: Recipe) -> Launcher:
    """Build the recipe's launcher.

    Raises:
        ConfigError: The launcher requires submitit, which is not installed.
    """
    match recipe.launcher:
        case Local():
            return LocalLauncher(recipe.folder, recipe.launcher.jobs)
        case Slurm():
            return SlurmLauncher(recipe.folder, recipe.launcher)
        case _:
            assert_never(recipe.launcher)


def command_words(words: Sequence[str]) -> list[str]:
    """Return the complete command line that runs a PocketDiT command with this Python interpreter."""
    return [sys.executable, "-m", "pocketdit", *words]


class LocalLauncher:
    """Runs commands as processes on this machine.

    If only one task runs at a time, its output goes to the terminal. If several tasks can run at the same time, the
    output of each one is written to ``TASK.log``, and they share the cores and GPUs.
    """

    def __init__(self, folder: Path, jobs: int) -> None:
        self.folder = folder
        self.jobs = jobs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.gpus = visible_gpus() if jobs > 1 else []

    def start(self, task: str, words: Sequence[str]) -> None:
        """Start a task's process. On Linux, it ends if this process is killed."""
        with ExitStack() as stack:
            log = self.log(task)
            file = None if log is None else stack.enter_context(log.open("ab"))
            self.processes[task] = subprocess.Popen(
                command_words(words),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=os.environ | self._environment(),
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    def status(self, task: str) -> int | None:
        """Return the exit status of a task's process."""
        return self.processes[task].poll()

    def log(self, task: str) -> Path | None:
        """Return the task's log file, or None if only one task runs at a time."""
        return self.folder / f"{task}.log" if self.jobs > 1 else None

    def stop(self) -> None:
        """Send SIGTERM to all processes, and SIGKILL to those that do not end in time."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _environment(self) -> dict[str, str]:
        """Return environment variables that divide the cores and the GPUs among the tasks."""
        if self.jobs == 1:
            return {}
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        taken = sum(process.poll() is None for process in self.processes.values())
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[taken % len(self.gpus)]} if self.gpus else {}
        return ({} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": threads}) | gpu


def end_with_parent() -> None:
    """Ask Linux to terminate this process when its parent dies, even if the parent is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def visible_gpus() -> list[str]:
    """Return the entries of CUDA_VISIBLE_DEVICES, or the indices of all GPUs if it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [entry for entry in visible.split(",") if entry]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


class SlurmLauncher:
    """Submits commands as jobs with submitit.

    The ID of each job is written to ``TASK.job``. If a recipe is killed and started again, it finds the jobs that are
    still queued or running, and waits for them.
    """

    jobs = 1024

    def __init__(self, folder: Path, spec: Slurm) -> None:
        if find_spec("submitit") is None:
            raise ConfigError("launcher: kind slurm needs submitit; install it with: pip install 'pocketdit[many]'")
        self.folder, self.spec = folder, spec
        self.running: dict[str, Any] = {}

    def start(self, task: str, words: Sequence[str]) -> None:
        """Submit a job for a task, unless an earlier command has submitted one that has not ended."""
        import submitit

        job = self._submitted(task)
        if job is None:
            executor = submitit.AutoExecutor(folder=self.folder / "jobs", cluster=self.spec.cluster)
            parameters = {"timeout_min": 60 * 24, "name": task} | self.spec.parameters | self.spec.tasks.get(task, {})
            try:
                executor.update_parameters(**parameters)
            except (AssertionError, NameError, TypeError) as error:
                raise ConfigError(f"launcher.parameters: {str(error).splitlines()[0]}") from None
            job = executor.submit(submitit.helpers.CommandFunction(command_words(words), verbose=False))
            write_atomically(self._job_file(task), job.job_id)
        self.running[task] = job

    def status(self, task: str) -> int | None:
        """Return None while a task's job is queued or running, 0 if it succeeded, and 1 if it failed."""
        job = self.running[task]
        if not job.done():
            return None
        self._job_file(task).unlink(missing_ok=True)
        return 0 if job.exception() is None else 1

    def log(self, task: str) -> Path | None:
        """Return the file to which submitit writes the output of a task's job."""
        return Path(self.running[task].paths.stderr)

    def stop(self) -> None:
        """Cancel all jobs."""
        for task, job in self.running.items():
            if not job.done():
                job.cancel()
            self._job_file(task).unlink(missing_ok=True)

    def _job_file(self, task: str) -> Path:
        return self.folder / f"{task}.job"

    def _submitted(self, task: str) -> Any:
        """Return the job that an earlier command submitted for a task, or None if there is none or it has ended."""
        import submitit

        if self.spec.cluster == "local" or not self._job_file(task).is_file():
            return None  # the jobs of the local cluster end with the command that started them
        job: Any = submitit.SlurmJob(self.folder / "jobs", self._job_file(task).read_text().strip())
        return None if job.done() else job

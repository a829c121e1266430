"""Keeps a fixed number of workers running with any launcher."""

import time
from pathlib import Path
from typing import Protocol

from pocketdit.errors import RunError

# This many early exits in a row indicate a problem with the code or the machine, so restarting does not help.
MAX_EARLY_EXITS = 10
EARLY_SECONDS = 60.0


class Launcher(Protocol):
    """Starts and stops workers. Workers get their trials from the storage, not from the launcher."""

    def start(self, index: int) -> None:
        """Start a worker, or a replacement for one that has exited."""

    def is_alive(self, index: int) -> bool:
        """Return whether a started worker is still running."""

    def stop(self) -> None:
        """Stop all workers. Their trials return to the queue."""


class WorkerPool:
    """A context manager that keeps workers running and stops them on exit.

    Args:
        launcher: Starts and stops the workers.
        size: Number of workers.
        log_folder: Folder of the workers' logs, for the error message.
    """

    def __init__(self, launcher: Launcher, size: int, log_folder: Path) -> None:
        self.launcher, self.size, self.log_folder = launcher, size, log_folder
        self.started_at: dict[int, float] = {}
        self.early_exits = dict.fromkeys(range(size), 0)

    def restart_missing(self) -> None:
        """Start the workers that are not running.

        Raises:
            RunError: A worker keeps exiting soon after its start.
        """
        for index in range(self.size):
            if index in self.started_at:
                if self.launcher.is_alive(index):
                    continue
                early = time.monotonic() - self.started_at[index] < EARLY_SECONDS
                self.early_exits[index] = self.early_exits[index] + 1 if early else 0
            if self.early_exits[index] == MAX_EARLY_EXITS:
                raise RunError(
                    f"worker {index} exited {MAX_EARLY_EXITS} times in a row within {EARLY_SECONDS:g} s of starting; "
                    f"see {self.log_folder}"
                )
            self.launcher.start(index)
            self.started_at[index] = time.monotonic()

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.launcher.stop()

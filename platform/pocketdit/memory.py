"""Determines how much memory a process can use, and how much it has used."""

import resource
import sys
from contextlib import suppress
from pathlib import Path


def available_memory() -> int | None:
    """Return the number of bytes that a new process can use, or None if the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    group = Path("/sys/fs/cgroup")  # contains the memory limit of a container
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def peak_bytes() -> int:
    """Return the peak memory of this process so far, in bytes.

    With a GPU, this is the memory allocated on it; without one, the resident set.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    # On Linux, this value can be that of the parent process, which is why /proc is preferred.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

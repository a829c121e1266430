"""Tests that a process keeps freed memory instead of returning it to the system."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import ctypes
import resource
from pocketdit.training.memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def fill() -> None:
    blocks = [libc.malloc(2**20) for _ in range(64)]
    for block in blocks:
        ctypes.memset(block, 1, 2**20)
    for block in blocks:
        libc.free(ctypes.c_void_p(block))

if {keep}:
    keep_freed_memory()
for _ in range(3):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(keep: bool) -> int:
    """Return the number of page faults when a process frees 64 MB and allocates them again."""
    command = [sys.executable, "-c", COUNT_FAULTS.format(keep=keep)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="requires glibc")
def test_memory_is_reused_without_page_faults() -> None:
    pages = 64 * 2**20 // 4096
    assert count_faults(keep=False) > pages / 2
    assert count_faults(keep=True) < pages / 100

"""Tunes the C library's memory allocator for training on a CPU."""

import ctypes
import platform

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
# The largest value that glibc accepts on 64-bit systems.
LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors in the process instead of returning it to the operating system.

    A training step frees its activations, and the next step allocates them again. By default, glibc returns the memory
    to the system in between, so the operating system maps and clears thousands of pages per step. With other C
    libraries, this function does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    # Tensors above this threshold (32 MiB) are still mapped separately. If only the trim threshold were set, all
    # tensors of at least 128 KiB would be mapped separately.
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)

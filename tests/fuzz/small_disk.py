"""Provides disks that tests can fill without administrator rights."""

import ctypes
import errno
import os
import resource
from pathlib import Path

SIZE = 64 << 20  # bytes
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000  # flags of unshare(2)
_PRIVATE = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE


class SmallDisk:
    """A folder on a separate disk, which only this process and its children see.

    Args:
        folder: An empty folder.

    Raises:
        OSError: The system does not allow mounting a disk.
    """

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"
        system = ctypes.CDLL(None, use_errno=True)
        user, group = os.getuid(), os.getgid()
        _call(system.unshare, _NEW_MOUNTS | (_NEW_USER if user else 0))
        if user:  # become root in a user namespace, because only root may mount
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        _call(system.mount, None, b"/", None, _PRIVATE, None)
        _call(system.mount, b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={SIZE}".encode())

    def fill(self, left: int) -> None:
        """Fill the disk except for about ``left`` bytes."""
        state = os.statvfs(self._ballast.parent)
        pages = state.f_bavail - left // state.f_frsize
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, pages) * state.f_frsize)

    def make_room(self) -> None:
        """Undo ``fill``."""
        self._ballast.unlink()


class LimitedFiles:
    """A limit on the size of the files that this process writes, for systems that do not allow ``SmallDisk``."""

    def fill(self, left: int) -> None:
        """Limit the size of files to ``left`` bytes."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (left, resource.RLIM_INFINITY))

    def make_room(self) -> None:
        """Undo ``fill``."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def small_disk(folder: Path) -> SmallDisk | LimitedFiles:
    """Return a disk that can be filled or, if the system does not allow one, a limit on the size of files."""
    try:
        return SmallDisk(folder)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS):
            raise
        return LimitedFiles()


def _call(function: object, *arguments: object) -> None:
    if function(*arguments) != 0:  # type: ignore[operator]
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

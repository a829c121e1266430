"""Calls a function before file operations, using Python's audit hooks."""

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

# https://docs.python.org/3/library/audit_events.html
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.symlink", "os.truncate"}


def on_file_events(folder: Path, act: Callable[[str], None]) -> None:
    """Call a function before every operation of the main thread on a file in a folder, until the process ends.

    Files that libraries such as torch open in native code are not observed, but the creation of their folders and the
    renaming of these files are. Other threads are ignored because the order of their operations is not reproducible.

    Args:
        folder: The folder.
        act: Function that is called with the operation and the file's path relative to the folder, as in
            "open checkpoints/.last.ckpt.tmp".
    """
    prefix, process, thread = f"{folder}{os.sep}", os.getpid(), threading.main_thread()

    def hook(event: str, values: tuple[object, ...]) -> None:
        if event in OPERATIONS and os.getpid() == process and threading.current_thread() is thread:
            paths = [os.fsdecode(value) for value in values if isinstance(value, str | bytes | os.PathLike)]
            if paths and paths[0].startswith(prefix):
                act(f"{event} {re.sub(rf'[.]{process}(?=[.]|$)', '', paths[0].removeprefix(prefix))}")

    sys.addaudithook(hook)

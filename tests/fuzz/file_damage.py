"""Functions that damage a file in a run folder, each in a different way."""

import ctypes
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pocketdit.files import LFS_POINTER

Damage = Callable[[random.Random, Path], None]


def _truncate(numbers: random.Random, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: numbers.randrange(len(content) or 1)])


def _empty(_: random.Random, path: Path) -> None:
    path.write_bytes(b"")


def _garble(numbers: random.Random, path: Path) -> None:
    size = len(path.read_bytes()) or 9
    path.write_bytes(numbers.choice((numbers.randbytes(size), bytes(size), b"- 1\n- 2\n", b"null\n", b"[" * 100_000)))


def _flip_bits(numbers: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    for _ in range(numbers.choice((1, 3, 100))):
        content[numbers.randrange(len(content))] ^= 1 << numbers.randrange(8)
    path.write_bytes(content)


def _replace_by_pointer(_: random.Random, path: Path) -> None:
    path.write_bytes(LFS_POINTER + b".github.com/spec/v1\noid sha256:0\nsize 9\n")


def _remove(_: random.Random, path: Path) -> None:
    path.unlink()


def _replace_by_folder(_: random.Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_fifo(_: random.Random, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_by_link(numbers: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to(numbers.choice(("missing", path.name, "/dev/zero", "/dev/null", "/dev/full")))


def _forbid_reading(_: random.Random, path: Path) -> None:
    obey_permissions()
    path.chmod(0)


def _forbid_writing(_: random.Random, path: Path) -> None:
    obey_permissions()
    path.parent.chmod(0o555)


def _make_newer(_: random.Random, path: Path) -> None:
    """Add entries to a file that a later version of PocketDiT might write."""
    match path.suffix:
        case ".json":
            path.write_text(json.dumps({"schema": 99, **json.loads(path.read_bytes())}))
        case ".jsonl":
            path.write_bytes(path.read_bytes() + b'{"kind": "later", "value": 1}\n')
        case ".safetensors":
            with safe_open(path, framework="pt") as file:
                about = file.metadata()
            save_file(load_file(path), path, {**about, "schema": "99"})
        case ".ckpt":
            torch.save({**torch.load(path, weights_only=True), "schema": 99}, path)
        case _:
            path.write_bytes(path.read_bytes() + b"later: 1\n")


DAMAGES: dict[str, Damage] = {
    "truncated": _truncate,
    "emptied": _empty,
    "garbled": _garble,
    "flipped bits": _flip_bits,
    "Git LFS pointer": _replace_by_pointer,
    "removed": _remove,
    "folder": _replace_by_folder,
    "FIFO": _replace_by_fifo,
    "link": _replace_by_link,
    "unreadable": _forbid_reading,
    "read-only folder": _forbid_writing,
    "newer": _make_newer,
}


def obey_permissions() -> None:
    """Make file permissions apply to this process even if it runs as root.

    Two capabilities let root read and write all files: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH. Both are dropped.
    """
    if os.geteuid():
        return
    system = ctypes.CDLL(None, use_errno=True)
    # Version 3 of the interface has two sets of three words.
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert system.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
    sets[0] &= ~0b110
    assert system.capset(header, sets) == 0, os.strerror(ctypes.get_errno())

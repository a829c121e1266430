"""Tests that damaged checkpoints are reported in one line and never loaded."""

import random
import resource
from pathlib import Path

import pytest
import torch

from pocketdit.errors import RunError
from pocketdit.running.checkpointing import AtomicCheckpointIO
from pocketdit.running.sharded import require_undamaged, save_shards

VALUES = torch.arange(1000.0)
CHECKPOINT = {"state_dict": {"w": VALUES}, "loops": {"step": 3}, "optimizer_states": []}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not a checkpoint", "not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (bytes(range(256)) * 8, "not a checkpoint"),
    ],
)
def test_another_file_is_not_read_as_a_checkpoint(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(RunError, match=f"last.ckpt cannot be read as a checkpoint.*{reason}") as raised:
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert len(str(raised.value).splitlines()) == 1


def test_a_file_of_tensors_is_not_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(3)}, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match="does not contain a training state"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")


def test_a_truncated_checkpoint_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    content = path.read_bytes()
    for size in range(1, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(RunError, match="cannot be read as a checkpoint"):
            AtomicCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize("bits", [1, 3])
def test_flipped_bits_never_load_silently(tmp_path: Path, bits: int) -> None:
    """Damage is detected, unless it affects only unused bytes and the loaded checkpoint equals the saved one."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    content, draw, detected = path.read_bytes(), random.Random(bits), 0
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(bits):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = AtomicCheckpointIO().load_checkpoint(path)
        except RunError:
            detected += 1
            continue
        assert torch.equal(loaded["state_dict"]["w"], VALUES)
        assert loaded["loops"] == CHECKPOINT["loops"]
    assert detected > 100


@pytest.mark.parametrize("limit", [0, 100, 3000])
def test_a_full_disk_is_named_and_keeps_the_previous_checkpoint(tmp_path: Path, limit: int) -> None:
    """A limit on file sizes has the same effect as a full disk."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    content = path.read_bytes()
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, allowed[1]))
    try:
        with pytest.raises(RunError, match=r"last\.ckpt \(only part of it could be written\); free"):
            AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    """A flipped bit in any file of a sharded checkpoint is detected, and so is a missing file."""
    folder = tmp_path / "last.ckpt"
    state = {"state_dict": {"w": torch.arange(100.0)}, "optimizer_0": {"step": torch.tensor(3)}}
    save_shards(state, {"loops": {"step": 3}}, folder, rank=0)
    require_undamaged(folder)
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("checksums"))
    assert [path.name for path in files] == [".metadata", "__0_0.distcp", "meta.pt"]
    for file in files:
        content = file.read_bytes()
        damaged = bytearray(content)
        damaged[len(damaged) // 2] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(RunError, match=f"{file.name}.*damaged"):
            require_undamaged(folder)
        file.unlink()
        with pytest.raises(RunError, match=f"{file.name}.*damaged"):
            require_undamaged(folder)
        file.write_bytes(content)
    require_undamaged(folder)

"""Tests for unreadable checkpoints."""

from pathlib import Path

import pytest

from pocketdit.errors import RunError
from pocketdit.running.checkpointing import AtomicCheckpointIO


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_reported_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(RunError, match="cannot be read as a checkpoint"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")

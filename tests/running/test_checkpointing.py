"""Checkpoints that cannot be read."""

from pathlib import Path

import pytest

from pocketdit.errors import RunError
from pocketdit.running.checkpointing import AtomicCheckpointIO


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(RunError, match="no checkpoint that can be read"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")

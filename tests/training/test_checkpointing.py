"""Checkpoints that cannot be read."""

from pathlib import Path

import pytest

from elastic_dit.errors import RunError
from elastic_dit.training.checkpointing import AtomicCheckpointIO


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(RunError, match="no checkpoint that can be read"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")

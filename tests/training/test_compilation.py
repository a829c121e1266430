"""Tests that ``training.compile`` is refused if its requirements are not met."""

import pytest
import torch

from pocketdit.config.experiment import Training
from pocketdit.errors import ConfigError
from pocketdit.training.compilation import require_compilable


def test_blocks_are_not_compiled_for_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    require_compilable(Training(max_steps=1, compile=True))
    require_compilable(Training(max_steps=1, accelerator="cpu"))
    with pytest.raises(ConfigError, match=r"^training\.compile requires a GPU, .*; set training\.compile to false$"):
        require_compilable(Training(max_steps=1, compile=True, accelerator="cpu"))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^training\.compile requires a GPU"):
        require_compilable(Training(max_steps=1, compile=True))

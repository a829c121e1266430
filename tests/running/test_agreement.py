"""Tests that processes that were started with different settings refuse to train together."""

from types import SimpleNamespace
from typing import Any

import pytest

from pocketdit.errors import ConfigError
from pocketdit.running import agreement
from pocketdit.running.agreement import RequireAgreement

FACTS = {"training": {"ema_decay": 0.9, "max_steps": 5}, "checkpoint": "step 4"}


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([FACTS, {**FACTS, "training": {"ema_decay": 0.8, "max_steps": 5}}],
         "^training.ema_decay: process 0 has 0.9, but process 2 has 0.8; start all processes with the same file"),
        ([{**FACTS, "checkpoint": None}, FACTS], "^checkpoint: process 0 has step 4, but process 1 has None"),
    ],
)  # fmt: skip
def test_a_difference_is_named(others: list[Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "gather", lambda facts, processes: [facts, *others])
    trainer: Any = SimpleNamespace(world_size=3)
    module: Any = None
    with pytest.raises(ConfigError, match=message):
        RequireAgreement(FACTS).setup(trainer, module, "fit")
    monkeypatch.setattr(agreement, "gather", lambda facts, processes: [facts] * processes)
    RequireAgreement(FACTS).setup(trainer, module, "fit")

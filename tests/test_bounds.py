"""Tests that the bounds in the types of settings are enforced, no matter how a settings object is created."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest

from pocketdit.bounds import Between, Count, Fraction, check_bounds
from pocketdit.config.experiment import Sampling, Training


@dataclass(frozen=True)
class Settings:
    count: Count = 1
    share: Fraction | None = None
    devices: Annotated[int, Between(1, 8)] | Literal["auto"] = "auto"
    pair: tuple[Annotated[int, Between(0, 9)], Annotated[float, Between(-1, 1)]] = (0, 0.0)
    many: tuple[Fraction, ...] = ()
    text: str = "9" * 20

    def __post_init__(self) -> None:
        check_bounds(self)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count must be from 1 to 1,000,000,000, not 0"),
        ({"count": 1_000_000_001}, "count must be from 1"),
        ({"share": 1.5}, "share must be from 0 to 1, not 1.5"),
        ({"share": float("nan")}, "share must be from 0 to 1, not nan"),
        ({"devices": 9}, "devices must be from 1 to 8, not 9"),
        ({"pair": (10, 0.0)}, "pair must be from 0 to 9, not 10"),
        ({"pair": (0, -2.0)}, "pair must be from -1 to 1, not -2.0"),
        ({"many": (0.5, 2.0)}, "many must be from 0 to 1, not 2.0"),
    ],
)
def test_numbers_out_of_bounds_are_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Settings(), **change)  # type: ignore[arg-type]


def test_numbers_at_the_bounds_are_accepted() -> None:
    Settings(1_000_000_000, 0.0, 8, (9, 1.0), (0.0, 1.0))
    Settings(1, 1.0, "auto", (0, -1.0))


@pytest.mark.parametrize(
    "change", [{"max_steps": 0}, {"ema_decay": 1.0}, {"clip_norm": 0.0}, {"devices": 0}, {"nodes": 0}]
)
def test_settings_of_a_program_are_checked_too(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be from"):
        replace(Training(max_steps=1), **change)  # type: ignore[arg-type]


def test_sides_of_samples_are_checked() -> None:
    with pytest.raises(ValueError, match="size must be from 1 to 65,536, not 0"):
        Sampling(("a",), size=(64, 0))

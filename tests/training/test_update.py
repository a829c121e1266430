"""Tests for the position of a batch, which is part of the seed of its random draws."""

from types import SimpleNamespace
from typing import Any

import pytest

from pocketdit.training.update import draw_position


def positions(ranks: int, accumulate: int, steps: int) -> list[set[tuple[int, int, int]]]:
    """Return, for each step, the positions of its batches in all processes."""

    def position(rank: int, number: int) -> tuple[int, int, int]:
        module: Any = SimpleNamespace(_trainer=SimpleNamespace(world_size=ranks), global_rank=rank)
        return draw_position(module, 7, number)

    numbers = [range(step * accumulate, (step + 1) * accumulate) for step in range(steps)]
    return [{position(rank, number) for rank in range(ranks) for number in step} for step in numbers]


@pytest.mark.parametrize(("ranks", "accumulate"), [(4, 2), (2, 4), (8, 1)])
def test_steps_of_any_number_of_processes_have_the_same_positions(ranks: int, accumulate: int) -> None:
    assert positions(ranks, accumulate, 3) == positions(1, 8, 3)
    assert positions(1, 8, 3)[1] == {(7, number, 0) for number in range(8, 16)}


def test_without_a_trainer_there_is_one_process() -> None:
    module: Any = SimpleNamespace(_trainer=None, global_rank=0)
    assert draw_position(module, 1, 5) == (1, 5, 0)

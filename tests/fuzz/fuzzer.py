"""Fuzzers, which turn a seed into cases."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.driver import SECONDS, Case


class Input(NamedTuple):
    """What a case is made from.

    Attributes:
        kind: One of the fuzzer's kinds.
        numbers: The only source of randomness.
        folder: An empty folder for the files of the case.
    """

    kind: str
    numbers: random.Random
    folder: Path


@dataclass(frozen=True)
class Fuzzer:
    """A family of cases.

    Attributes:
        name: Name on the command line.
        kinds: Kinds of cases, which are used in turn.
        run: Runs a case, like ``Case.run``.
        count: Number of cases that ``make fuzz`` runs.
        seconds: Time after which a case counts as a hang.
    """

    name: str
    kinds: Sequence[str]
    run: Callable[[Input], str]
    count: int = 100
    seconds: float = SECONDS

    def cases(self, seed: int, numbers: Sequence[int]) -> list[Case]:
        """Return the cases with these numbers. A case depends only on the seed and its number."""
        return [self._case(seed, number) for number in numbers]

    def _case(self, seed: int, number: int) -> Case:
        first = random.Random(f"{self.name} {seed}").randrange(len(self.kinds))
        kind = self.kinds[(first + number) % len(self.kinds)]

        def run(folder: Path) -> str:
            return self.run(Input(kind, random.Random(f"{self.name} {seed} {number}"), folder))

        return Case(f"{self.name} {kind} (--only {self.name} --seed {seed} --case {number})", run, self.seconds)

"""Fuzzers, which generate test cases from a seed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.driver import SECONDS, Case


class Input(NamedTuple):
    """The arguments of a case.

    Attributes:
        kind: One of the fuzzer's kinds.
        numbers: Random number generator, the case's only source of randomness.
        folder: An empty folder for the case's files.
        shared: Folder that the fuzzer prepared for all of its cases. The cases must not change it.
    """

    kind: str
    numbers: random.Random
    folder: Path
    shared: Path


@dataclass(frozen=True)
class Fuzzer:
    """A family of cases.

    Attributes:
        name: Name on the command line.
        kinds: Kinds of cases, which are used in turn.
        run: Function that runs a case and describes the outcome, like ``Case.run``.
        count: Number of cases that ``make fuzz`` runs.
        full_count: Number of cases that ``make fuzz-slow`` runs, if it runs more than ``make fuzz``.
        seconds: Time after which a case counts as a hang.
        prepare: Function that writes files to an empty folder, which all cases share.
    """

    name: str
    kinds: Sequence[str]
    run: Callable[[Input], str]
    count: int = 100
    full_count: int | None = None
    seconds: float = SECONDS
    prepare: Callable[[Path], None] | None = None

    def cases(self, seed: int, numbers: Sequence[int], shared: Path) -> list[Case]:
        """Return the cases with these numbers. A case depends only on the seed and its number."""
        return [self._case(seed, number, shared) for number in numbers]

    def _case(self, seed: int, number: int, shared: Path) -> Case:
        first = random.Random(f"{self.name} {seed}").randrange(len(self.kinds))
        kind = self.kinds[(first + number) % len(self.kinds)]

        def run(folder: Path) -> str:
            return self.run(Input(kind, random.Random(f"{self.name} {seed} {number}"), folder, shared))

        return Case(f"{self.name} {kind} (--only {self.name} --seed {seed} --case {number})", run, self.seconds)


def preparation(prepare: Callable[[Path], None], shared: Path) -> Case:
    """Return a case that prepares fuzzers in a separate process, because the parent forks and must have no threads."""

    def run(_: Path) -> str:
        prepare(shared)
        return "prepared"

    return Case("preparation", run, seconds=900)

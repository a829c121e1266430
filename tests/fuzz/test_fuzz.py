"""A few cases of every fuzzer. ``make fuzz`` runs many more."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzz.__main__ import FUZZERS
from tests.fuzz.command import run_command
from tests.fuzz.driver import Case, run_case, run_cases
from tests.fuzz.fuzzer import Input


@pytest.mark.parametrize("name", FUZZERS)
def test_damaged_inputs_are_refused_or_counted(name: str) -> None:
    outcomes = run_cases(FUZZERS[name].cases(seed=1, numbers=range(12)))
    assert [str(outcome) for outcome in outcomes if not outcome.passed] == []
    assert len(outcomes) == 12


@pytest.mark.parametrize("name", FUZZERS)
def test_cases_depend_only_on_the_seed_and_the_number(name: str) -> None:
    def draw(given: Input) -> str:
        return f"{given.kind} {given.numbers.random()}"

    def drawn(seed: int, number: int) -> str:
        fuzzer = replace(FUZZERS[name], run=draw)
        return fuzzer.cases(seed, [number])[0].run(Path())

    assert drawn(3, 7) == drawn(3, 7)
    assert len({drawn(seed, number) for seed in (3, 4) for number in (7, 8)}) == 4


def test_driver_reports_errors_and_hangs() -> None:
    def fail(_: Path) -> str:
        raise ZeroDivisionError

    def hang(_: Path) -> str:
        time.sleep(60)
        return ""

    failed, hanging = run_cases([Case("fails", fail), Case("hangs", hang, seconds=0.5)], jobs=2)
    assert not failed.passed
    assert "ZeroDivisionError" in failed.text
    assert not hanging.passed
    assert "hangs" in hanging.text
    assert failed.verdict == hanging.verdict == "failed"


def test_driver_reports_what_became_of_a_case() -> None:
    outcome = run_case(Case("passes", lambda folder: f"refused: {folder.is_dir()}"))
    assert (outcome.passed, outcome.verdict, outcome.text) == (True, "refused", "refused: True")


def test_driver_accepts_an_error_of_one_line(tmp_path: Path) -> None:
    output = run_command("data", "validate", tmp_path / "missing")
    assert output.status == 1
    assert "no such data set" in output.lines[0]

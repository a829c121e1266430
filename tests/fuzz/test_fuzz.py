"""A few cases of every fuzzer. ``make fuzz`` runs a hundred of each."""

import time
from pathlib import Path

import pytest

from tests.fuzz.__main__ import FUZZERS
from tests.fuzz.driver import Case, run_case, run_cases, run_command


@pytest.mark.parametrize("name", FUZZERS)
def test_damaged_inputs_are_refused_or_counted(name: str) -> None:
    assert [str(outcome) for outcome in run_cases(FUZZERS[name](seed=1, count=12))] == []


@pytest.mark.parametrize("name", FUZZERS)
def test_cases_depend_only_on_the_seed(name: str) -> None:
    names = [[case.name for case in FUZZERS[name](seed, count=40)] for seed in (3, 3, 4)]
    assert names[0] == names[1] != names[2]


def test_driver_reports_errors_and_hangs() -> None:
    def fail(_: Path) -> str:
        raise ZeroDivisionError

    def hang(_: Path) -> str:
        time.sleep(60)
        return ""

    failed, hanging = run_case(Case("fails", fail)), run_case(Case("hangs", hang), seconds=0.5)
    assert not failed.passed
    assert "ZeroDivisionError" in failed.text
    assert not hanging.passed
    assert "hangs" in hanging.text


def test_driver_accepts_an_error_of_one_line(tmp_path: Path) -> None:
    output = run_command("data", "validate", tmp_path / "missing")
    assert output.status == 1
    assert "no such data set" in output.lines[0]

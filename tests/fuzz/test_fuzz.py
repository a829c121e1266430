"""Runs a few cases of every fuzzer. ``make fuzz`` runs many more."""

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzz import overrides, run_folders, yaml_files
from tests.fuzz.command import run_command
from tests.fuzz.driver import Case, run_case, run_cases
from tests.fuzz.fuzzer import Input, preparation
from tests.fuzz.fuzzers import FUZZERS
from tests.fuzz.shipped import ROOT, Shipped, same

prepare_few = functools.partial(run_folders.prepare, stages=("elastic_pretrain", "tiny_decoder"), commands=["sample"])
# For fuzzers whose cases take seconds, a few of the quickest cases.
FEW = {
    "plans": replace(FUZZERS["plans"], count=1),
    "run_folders": replace(
        FUZZERS["run_folders"], count=4, kinds=("sample: flipped bits", "sync: garbled"), prepare=prepare_few
    ),
    "leaks": replace(FUZZERS["leaks"], count=1, kinds=("tracking parameter in plain text",), prepare=None),
    "full_disks": replace(FUZZERS["full_disks"], count=1, kinds=("weights.safetensors",), prepare=prepare_few),
    "kills": replace(FUZZERS["kills"], count=1, kinds=("tiny_decoder with 2",), prepare=prepare_few),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], None] | None], Path]:
    """Return a function that calls a fuzzer's ``prepare`` once, and returns the folder with the prepared files."""

    @functools.cache
    def shared(prepare: Callable[[Path], None] | None) -> Path:
        folder = tmp_path_factory.mktemp("shared")
        outcome = run_case(preparation(prepare, folder)) if prepare else None
        assert outcome is None or outcome.passed, str(outcome)
        return folder

    return shared


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in FEW else name for name in FUZZERS]
)
def test_damaged_inputs_are_refused_or_counted(name: str, prepared: Callable[..., Path]) -> None:
    fuzzer = FEW.get(name) or replace(FUZZERS[name], count=12)
    outcomes = run_cases(fuzzer.cases(1, range(fuzzer.count), prepared(fuzzer.prepare)))
    assert [str(outcome) for outcome in outcomes if not outcome.passed] == []
    assert len(outcomes) == fuzzer.count


@pytest.mark.parametrize("name", FUZZERS)
def test_cases_depend_only_on_the_seed_and_the_number(name: str) -> None:
    def draw(given: Input) -> str:
        return f"{given.kind} {given.numbers.random()}"

    def drawn(seed: int, number: int) -> str:
        fuzzer = replace(FUZZERS[name], run=draw)
        return fuzzer.cases(seed, [number], Path())[0].run(Path())

    assert drawn(3, 7) == drawn(3, 7)
    assert len({drawn(seed, number) for seed in (3, 4) for number in (7, 8)}) == 4


@pytest.mark.parametrize(
    ("given", "taken", "expected"),
    [
        (3, 3.0, True),
        ("1e-5", 1e-5, True),
        ("~/x", str(Path("~/x").expanduser()), True),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ([1, 2], [1, 3], False),
        (True, 1, False),
        (None, "", False),
        ("a #1", "a", False),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_changed_values_are_noticed(given: object, taken: object, expected: bool) -> None:
    assert same(given, taken) is expected


def test_accepted_damage_is_noticed(tmp_path: Path) -> None:
    file = Shipped("run", ROOT / "experiments" / "teacher.yaml")
    with pytest.raises(AssertionError, match="was accepted as 0"):
        overrides.require_effect(file, overrides.Change("seed", "0", value=1), tmp_path)
    path = tmp_path / "teacher.yaml"
    path.write_text(f"{file.path.read_text()}\nseed: 3\n")
    with pytest.raises(AssertionError, match="a repeated key"):
        yaml_files.require_effect(file, path)


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

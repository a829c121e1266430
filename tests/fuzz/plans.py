"""Passes random overrides to ``lightning run FILE OVERRIDE --plan``, which runs in a separate process."""

import subprocess
import sys

from tests.fuzz.command import checked
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.overrides import KINDS, Change
from tests.fuzz.shipped import ROOT, Shipped

LONGEST_ARGUMENT = 100_000  # in bytes; the limit that Linux imposes is higher


def _run(given: Input) -> str:
    path = given.numbers.choice(sorted((ROOT / "experiments").glob("*.yaml")))
    change = _change(given, Shipped("run", path))
    command = [sys.executable, "-m", "pocketdit", "run", str(path), str(change), "--plan"]
    ended = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = checked(ended.returncode, ended.stdout)
    if output.status:
        return f"refused: {output.lines[-1][:300]}"
    assert " steps of " in output.lines[0], output.lines
    return f"planned: {path.name} {str(change)[:300]!r}"


def _change(given: Input, file: Shipped) -> Change:
    """Return an override that the operating system can pass to a process."""
    while True:
        change = KINDS[given.kind](given.numbers, file)
        text = str(change).encode(errors="replace")
        if b"\0" not in text and len(text) < LONGEST_ARGUMENT and text.decode() == str(change):
            return change


# Near values are drawn more often, because most values of other kinds are refused before anything is planned.
PLANS = Fuzzer("plans", ("near value", "near value", *KINDS), _run, count=15, full_count=50, seconds=120)

"""The shared measurement."""

from pathlib import Path

import pytest
import torch

from benchmarks import timing


def test_pairs_are_divided_before_the_median_is_taken() -> None:
    """A machine that slows down by ten in the last round leaves the ratio as it is."""
    ratio = timing.pairwise([2.0, 4.0, 40.0], [1.0, 2.0, 10.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 4.0)
    assert str(ratio) == "2.00 (2.00 to 4.00)"


def test_calls_take_turns_after_the_warm_up() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = timing.alternate(calls, 3, warmup=1)
    assert "".join(order) == "ab" + "ab" * 3
    assert {name: len(s) for name, s in seconds.items()} == {"a": 3, "b": 3}


def test_short_calls_are_repeated_and_seconds_stay_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that stands still outside the calls: a warm-up, a call for the estimate, then 10 in each round."""
    calls = 0
    monkeypatch.setattr(timing.time, "perf_counter", lambda: calls * 0.002)

    def call() -> None:
        nonlocal calls
        calls += 1

    seconds = timing.alternate({"call": call}, 2, at_least=0.02)["call"]
    assert calls == 2 + 2 * 10
    assert seconds == pytest.approx([0.002, 0.002])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak starts again on Linux alone")
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU its allocations are counted")
def test_peak_memory_holds_what_was_freed_again() -> None:
    size = 200 << 20
    earlier = torch.ones(size, dtype=torch.uint8)
    del earlier
    memory = timing.PeakMemory()
    assert memory.growth() < size / 4
    block = torch.ones(size, dtype=torch.uint8)
    del block
    assert size * 0.9 < memory.growth() < size * 1.2


def test_child_gives_back_its_last_line(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text("import json, sys\nprint('words')\nprint(json.dumps(sys.argv[1:]))\n")
    assert timing.child(str(script), "one", "two") == ["one", "two"]


def test_columns_are_aligned() -> None:
    assert timing.table(["name", "s"], [["a", 1], ["longer", 22]]).splitlines() == [
        "name     s",
        "a        1",
        "longer  22",
    ]

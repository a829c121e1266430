"""Tests for the measurement tools that the benchmarks share."""

from pathlib import Path

import pytest
import torch

from benchmarks import timing


def test_paired_ratio_is_the_median_of_ratios() -> None:
    """If the machine becomes ten times slower in the last round, the ratio does not change."""
    ratio = timing.paired_ratio([2.0, 4.0, 40.0], [1.0, 2.0, 10.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 4.0)
    assert str(ratio) == "2.00 (2.00 to 4.00)"


def test_calls_alternate_after_the_warmup() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = timing.time_alternately(calls, 3, warmup=1)
    assert "".join(order) == "ab" + "ab" * 3
    assert {name: len(s) for name, s in seconds.items()} == {"a": 3, "b": 3}


def test_short_calls_are_repeated_and_seconds_are_per_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock advances only during calls. One call warms up, one estimates the duration, and each round makes 10."""
    calls = 0
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: calls * 0.002)

    def call() -> None:
        nonlocal calls
        calls += 1

    seconds = timing.time_alternately({"call": call}, 2, at_least=0.02)["call"]
    assert calls == 2 + 2 * 10
    assert seconds == pytest.approx([0.002, 0.002])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can only be reset on Linux")
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, only the GPU's memory is measured")
def test_peak_memory_includes_freed_memory() -> None:
    size = 200 << 20
    earlier = torch.ones(size, dtype=torch.uint8)
    del earlier
    memory = timing.PeakMemory()
    assert memory.growth() < size / 4
    block = torch.ones(size, dtype=torch.uint8)
    del block
    assert size * 0.9 < memory.growth() < size * 1.2


def test_run_child_returns_the_last_line(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text("import json, sys\nprint('text')\nprint(json.dumps(sys.argv[1:]))\n")
    assert timing.run_child(str(script), "one", "two") == ["one", "two"]


def test_table_aligns_its_columns() -> None:
    assert timing.table(["name", "s"], [["a", 1], ["longer", 22]]).splitlines() == [
        "name      s",
        "a         1",
        "longer   22",
    ]

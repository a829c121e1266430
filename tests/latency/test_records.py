"""Tests that latency records are stored and read back, and that tables never mix predictions and measurements."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketdit.errors import RunError
from pocketdit.export.common.bundle_files import LATENCY
from pocketdit.latency.records import (
    LatencyRecord,
    add_record,
    content_hash,
    latency_tables,
    measurement,
    read_records,
)

PREDICTED = LatencyRecord("transformer", "0" * 64, "predicted", "iphone16promax", "", "CPU_AND_NE", 1, "1024x1024",
                          360.0, 250.0, 500.0, "80% interval", 0, "2026-01-01T00:00:00+00:00")  # fmt: skip


def make_measurement(device: str = "iphone16promax") -> LatencyRecord:
    return measurement([10.0, 11.0, 12.0, 13.0, 99.0], "transformer", "1" * 64, device, "iOS 18.2", "CPU_AND_NE", 1,
                    "1024x1024")  # fmt: skip


def test_measurements_become_median_and_percentiles() -> None:
    record = make_measurement()
    assert (record.kind, record.milliseconds, record.runs) == ("measured", 12.0, 5)
    assert record.low == pytest.approx(10.2)
    assert record.high == pytest.approx(81.8)


def test_records_are_read_back(tmp_path: Path) -> None:
    for record in (PREDICTED, make_measurement(), make_measurement("Apple M4")):
        add_record(tmp_path, record)
    assert read_records(tmp_path) == [PREDICTED, make_measurement(), make_measurement("Apple M4")]
    assert [json.loads(line)["kind"] for line in (tmp_path / LATENCY).read_text().splitlines()] == [
        "predicted", "measured", "measured",
    ]  # fmt: skip
    assert read_records(tmp_path / "nowhere") == []


def test_new_predictions_replace_old_ones_and_measurements_are_kept(tmp_path: Path) -> None:
    for record in (PREDICTED, make_measurement(), make_measurement(), replace(PREDICTED, milliseconds=1.0)):
        add_record(tmp_path, record)
    kinds = [(record.kind, record.milliseconds) for record in read_records(tmp_path)]
    assert kinds == [("measured", 12.0), ("measured", 12.0), ("predicted", 1.0)]


def test_tables_never_mix_predictions_and_measurements() -> None:
    text = latency_tables([make_measurement(), PREDICTED, make_measurement()])
    first, second = text.split("\n\n")
    assert first.startswith("predicted latency")
    assert "360.0" in first
    assert "12.0" not in first
    assert second.startswith("measured latency")
    assert second.count("12.0") == 2
    assert "360.0" not in second
    assert "iOS 18.2" in second
    assert "system" not in first
    assert latency_tables([PREDICTED]).count("latency") == 1


@pytest.mark.parametrize("change", [{"kind": "guessed"}, {"runs": 5}, {"kind": "measured"}])
def test_inconsistent_records_are_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError,
        match=r"kind='guessed': must be|runs=\d: must be at least 1 for a measurement and 0 for a prediction",
    ):
        replace(PREDICTED, **change)


def test_damaged_lines_are_reported_by_number(tmp_path: Path) -> None:
    add_record(tmp_path, PREDICTED)
    with (tmp_path / LATENCY).open("a") as file:
        file.write('{"what": "transformer"}\n')
    with pytest.raises(RunError, match=r"latency.jsonl:2"):
        read_records(tmp_path)


def test_content_hash_covers_names_and_contents(tmp_path: Path) -> None:
    package = tmp_path / "a.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weight.bin").write_bytes(b"1")
    first = content_hash(package)
    assert content_hash(package.rename(tmp_path / "b.mlpackage")) == first
    (tmp_path / "b.mlpackage" / "Data" / "weight.bin").write_bytes(b"2")
    second = content_hash(tmp_path / "b.mlpackage")
    (tmp_path / "b.mlpackage" / "Data" / "weight.bin").rename(tmp_path / "b.mlpackage" / "Data" / "other.bin")
    assert len({first, second, content_hash(tmp_path / "b.mlpackage")}) == 3

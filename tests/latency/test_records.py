"""Records survive the way to the file and back, and predictions never stand beside measurements."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pocketdit.errors import RunError
from pocketdit.latency.records import FILE_NAME, LatencyRecord, add, content_hash, measured, read, tables

PREDICTED = LatencyRecord("transformer", "0" * 64, "predicted", "iphone16promax", "", "CPU_AND_NE", 1, "1024x1024",
                          360.0, 250.0, 500.0, "80% interval", 0, "2026-01-01T00:00:00+00:00")  # fmt: skip


def a_measurement(device: str = "iphone16promax") -> LatencyRecord:
    return measured([10.0, 11.0, 12.0, 13.0, 99.0], "transformer", "1" * 64, device, "iOS 18.2", "CPU_AND_NE", 1,
                    "1024x1024")  # fmt: skip


def test_a_measurement_is_its_median_with_percentiles() -> None:
    record = a_measurement()
    assert (record.kind, record.milliseconds, record.runs) == ("measured", 12.0, 5)
    assert record.low == pytest.approx(10.2) and record.high == pytest.approx(81.8)


def test_records_come_back_from_the_file(tmp_path: Path) -> None:
    for record in (PREDICTED, a_measurement(), a_measurement("Apple M4")):
        add(tmp_path, record)
    assert read(tmp_path) == [PREDICTED, a_measurement(), a_measurement("Apple M4")]
    assert [json.loads(line)["kind"] for line in (tmp_path / FILE_NAME).read_text().splitlines()] == [
        "predicted", "measured", "measured",
    ]  # fmt: skip
    assert read(tmp_path / "nowhere") == []


def test_a_new_prediction_replaces_the_old_one_and_measurements_stay(tmp_path: Path) -> None:
    for record in (PREDICTED, a_measurement(), a_measurement(), replace(PREDICTED, milliseconds=1.0)):
        add(tmp_path, record)
    kinds = [(record.kind, record.milliseconds) for record in read(tmp_path)]
    assert kinds == [("measured", 12.0), ("measured", 12.0), ("predicted", 1.0)]


def test_tables_never_mix_kinds() -> None:
    text = tables([a_measurement(), PREDICTED, a_measurement()])
    first, second = text.split("\n\n")
    assert first.startswith("predicted latency") and "360.0" in first and "12.0" not in first
    assert second.startswith("measured latency") and second.count("12.0") == 2 and "360.0" not in second
    assert "iOS 18.2" in second and "system" not in first
    assert tables([PREDICTED]).count("latency") == 1


@pytest.mark.parametrize("change", [{"kind": "guessed"}, {"runs": 5}, {"kind": "measured"}])
def test_a_record_must_be_of_one_kind(change: dict) -> None:
    with pytest.raises(ValueError, match=r"kind must be|a measurement has runs"):
        replace(PREDICTED, **change)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    add(tmp_path, PREDICTED)
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"what": "transformer"}\n')
    with pytest.raises(RunError, match=r"latency.jsonl:2"):
        read(tmp_path)


def test_the_hash_is_of_names_and_content(tmp_path: Path) -> None:
    package = tmp_path / "a.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weight.bin").write_bytes(b"1")
    first = content_hash(package)
    assert content_hash(package.rename(tmp_path / "b.mlpackage")) == first
    (tmp_path / "b.mlpackage" / "Data" / "weight.bin").write_bytes(b"2")
    second = content_hash(tmp_path / "b.mlpackage")
    (tmp_path / "b.mlpackage" / "Data" / "weight.bin").rename(tmp_path / "b.mlpackage" / "Data" / "other.bin")
    assert len({first, second, content_hash(tmp_path / "b.mlpackage")}) == 3

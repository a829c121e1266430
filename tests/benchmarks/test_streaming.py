"""Tests for the benchmark that reads data from an S3 server."""

import json
import multiprocessing
from pathlib import Path

import pytest

from benchmarks.streaming import main


@pytest.mark.slow
def test_every_loader_reads_all_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark itself raises an error if a loader yields a different number of samples."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE", "")
    main(["--quick", "--json", str(tmp_path / "streaming.json")])
    result = json.loads((tmp_path / "streaming.json").read_text())
    loaders = {"download", "data module, cold", "data module, warm", "data module, local", "webdataset"}
    assert loaders <= set(result["seconds"])
    assert all(row["mb_per_second"] > 0 for row in result["rows"])
    assert result["ratio"] == pytest.approx(
        result["seconds"]["download"][0] / result["seconds"]["data module, cold"][0], rel=1e-6
    )
    assert not multiprocessing.active_children()

"""Tests that two DDP processes use each sample once per epoch, even if the server is faulty and the run is resumed.

The S3 server responds with a delay, drops connections, refuses requests, and truncates responses.
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.storage_proxy import Fault, StorageProxy
from datamodules.remote.cache import ShardCache
from tests.datamodules.recorder import record, recording


class _Watch:
    """A context manager that repeatedly measures the size of a cache on the disk and records the maximum."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.largest, self._is_over = folder, 0, threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._is_over.wait(0.005):
            size = 0
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(self._folder):
                    with contextlib.suppress(FileNotFoundError):
                        size += entry.stat().st_size if entry.name.endswith((".tar", ".partial")) else 0
            self.largest = max(self.largest, size)


def _wait_for_file(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_two_ranks_on_a_faulty_server_equal_a_local_run_also_when_killed_and_resumed(
    make_dataset: Callable[..., Path],
    upload: Callable[[Path], str],
    moto_port: int,
    s3_environment: Callable[[int], None],
    cache_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_dataset(train=70, validation=9, samples_per_shard=5)
    address = upload(data)
    largest = max(path.stat().st_size for path in data.rglob("*.tar"))
    # Room for two windows of three training shards and one validation shard. The training split has 14 shards.
    limit = 7 * largest
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE_LIMIT", str(limit))
    local = record(tmp_path / "local", str(data), 24)
    per_epoch = local[0]["batches_per_epoch"]
    assert 2 * per_epoch <= 24
    for epoch in range(2):
        steps = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
        assert sorted(row for rank in local for rows, _ in rank["seen"][steps] for row in rows) == list(range(70))
    assert sorted(local[0]["validated"] + local[1]["validated"]) == list(range(9))

    faults: dict[Fault, float] = {"reset": 0.1, "503": 0.1, "cut": 0.1}
    with (
        StorageProxy(moto_port, latency=0.02, faults=faults, seed=1) as proxy,
        _Watch(cache_folder / "shards") as watch,
    ):
        s3_environment(proxy.port)
        with recording(tmp_path / "killed", address, 24) as process:
            _wait_for_file(tmp_path / "killed" / "step=7.ckpt", process)
        # Simulate the partial file of a worker that was killed while downloading.
        leftover = cache_folder / "shards" / f"{'0' * 32}-{largest}.partial"
        leftover.write_bytes(b"half")
        resumed = record(tmp_path / "resumed", address, 24, tmp_path / "killed" / "step=7.ckpt")
        assert set(proxy.injected) == set(faults)
    for rank in range(2):
        for name in ("seen", "losses"):
            assert resumed[rank][name] == local[rank][name][7:]
        for name in ("weight", "validated"):
            assert resumed[rank][name] == local[rank][name]
    cache = ShardCache(cache_folder / "shards", limit)
    assert 0 < watch.largest <= limit
    assert 0 < cache.usage().peak <= limit
    assert cache.usage().removed > 0
    assert not leftover.exists()
    assert cache.occupied() <= limit

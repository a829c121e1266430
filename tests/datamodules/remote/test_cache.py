"""Tests that the bounded cache keeps shards that are in use and removes the leftover files of killed processes."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.remote.cache import ShardCache, Usage
from pocketdit.errors import RunError

SIZE = 1000
FORK = multiprocessing.get_context("fork")


def _content(name: str, size: int = SIZE) -> bytes:
    return (name * size).encode()[:size]


def _hold(cache: ShardCache, name: str, *, wait: bool = True) -> int | None:
    return cache.hold((name,), SIZE, lambda path: _write(path, _content(name)), wait=wait)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _read(descriptor: int | None) -> bytes:
    assert descriptor is not None
    content = os.pread(descriptor, 2 * SIZE, 0)
    os.close(descriptor)
    return content


def _occupied(folder: Path) -> int:
    """Return the total size of the cached files on disk."""
    total = 0
    for path in folder.iterdir():
        if path.suffix in (".tar", ".partial"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue
    return total


def test_shard_is_downloaded_once(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 10 * SIZE)
    for _ in range(2):
        assert _read(_hold(cache, "a")) == _content("a")
    assert _read(_hold(ShardCache(tmp_path, 10 * SIZE), "a")) == _content("a")
    assert cache.usage() == Usage(peak=SIZE, downloads=1, removed=0)


def test_least_recently_used_shard_that_nobody_holds_makes_room(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 3 * SIZE)
    held = _hold(cache, "a")
    for name in "bcb":
        _read(_hold(cache, name))
        time.sleep(0.01)
    for name in "de":
        _read(_hold(cache, name))
    assert cache.usage() == Usage(peak=3 * SIZE, downloads=5, removed=2)
    _read(_hold(cache, "e"))
    assert cache.usage().downloads == 5
    assert _read(held) == _content("a")
    _read(_hold(cache, "a"))
    assert cache.usage().downloads == 5
    _read(_hold(cache, "c"))
    assert cache.usage().downloads == 6


def test_full_cache_of_held_shards_has_no_room(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 2 * SIZE + 10)
    held = [_hold(cache, name) for name in "ab"]
    assert _hold(cache, "c", wait=False) is None
    assert not cache.is_waited_for()
    let_go: list[int] = []

    def make_room() -> None:
        assert cache.is_waited_for()
        if not let_go:
            let_go.append(held[0] or 0)
            os.close(held[0] or 0)

    descriptor = cache.hold(("c",), SIZE, lambda path: _write(path, _content("c")), wait=True, make_room=make_room)
    assert let_go
    assert _read(descriptor) == _content("c")
    assert _read(held[1]) == _content("b")


def test_failed_download_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 2 * SIZE)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RunError("on purpose")

    def fill_disk(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with pytest.raises(RunError, match="on purpose"):
        cache.hold(("a",), SIZE, fail, wait=True)
    with pytest.raises(RunError, match=rf"the cache {tmp_path} cannot be used \(No space left on device\); free"):
        cache.hold(("a",), SIZE, fill_disk, wait=True)
    assert cache.occupied() == _occupied(tmp_path) == 0
    assert _read(_hold(cache, "a")) == _content("a")


def test_shard_that_lost_its_end_is_downloaded_again(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 2 * SIZE)
    _read(_hold(cache, "a"))
    (shard,) = tmp_path.glob("*.tar")
    os.truncate(shard, 10)
    assert _read(_hold(cache, "a")) == _content("a")
    assert cache.usage().downloads == 2


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match=rf"the cache {tmp_path}/file/shards cannot be used \("):
        ShardCache(tmp_path / "file" / "shards", SIZE)


def test_folder_that_is_deleted_during_a_run_is_made_again(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 2 * SIZE)
    held = _hold(cache, "a")
    shutil.rmtree(cache.folder)
    assert _read(_hold(cache, "b")) == _content("b")
    assert _read(held) == _content("a")
    assert cache.occupied() == SIZE


@pytest.mark.parametrize("is_written_anew", [False, True])
def test_folder_that_is_deleted_during_a_download_is_made_again(tmp_path: Path, is_written_anew: bool) -> None:
    cache = ShardCache(tmp_path / "cache", 2 * SIZE)
    deleted: list[Path] = []

    def download(path: Path) -> None:
        if not deleted:
            deleted.append(path)
            shutil.rmtree(cache.folder)
            if not is_written_anew:
                return
            cache.folder.mkdir()  # another process could create the folder again
        path.write_bytes(_content("a"))

    assert _read(cache.hold(("a",), SIZE, download, wait=True)) == _content("a")
    assert deleted
    assert [path.suffix for path in cache.folder.iterdir() if path.name != ".lock"] == [".tar"]


def test_folder_that_becomes_unusable_is_named(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 2 * SIZE)
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()
    with pytest.raises(
        RunError, match=rf"the cache {tmp_path} cannot be used \(Is a directory\); free disk space, change"
    ):
        _hold(cache, "a")


def _download_slowly(folder: Path, path_of_start: Path) -> None:
    def download(path: Path) -> None:
        path.write_bytes(b"half")
        path_of_start.touch()
        time.sleep(60)

    ShardCache(folder, 2 * SIZE).hold(("a",), SIZE, download, wait=True)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("is_waiting", [True, False])
def test_temporary_file_of_a_killed_process_is_replaced(tmp_path: Path, is_waiting: bool) -> None:
    folder, started = tmp_path / "cache", tmp_path / "started"
    process = FORK.Process(target=_download_slowly, args=(folder, started))
    process.start()
    try:
        _wait_for(started.exists)
        cache = ShardCache(folder, 2 * SIZE)
        assert len(list(folder.glob("*.partial"))) == 1
        assert cache.occupied() == SIZE  # an unfinished download counts with its full size
        assert _hold(cache, "a", wait=False) is None
        if is_waiting:
            killer = FORK.Process(target=_kill_later, args=(process.pid,))
            killer.start()
            assert _read(_hold(cache, "a")) == _content("a")
            killer.join()
        else:
            process.kill()
            process.join()
            assert ShardCache(folder, 2 * SIZE).occupied() == 0
    finally:
        process.kill()
        process.join()
    assert list(folder.glob("*.partial")) == []


def _kill_later(pid: int) -> None:
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)


def _read_often(folder: Path, limit: int, seed: int, failed: Path) -> None:
    """Read shards in an order that depends on ``seed``, and create the file ``failed`` if a shard has wrong content."""
    cache = ShardCache(folder, limit)
    for i in range(60):
        name = "abcdefg"[(i * (seed + 1) + seed) % 7]
        if _read(_hold(cache, name)) != _content(name):
            failed.touch()


def test_processes_share_a_cache_with_room_for_one_shard_each(tmp_path: Path) -> None:
    folder, failed = tmp_path / "cache", tmp_path / "failed"
    processes = [FORK.Process(target=_read_often, args=(folder, 3 * SIZE, seed, failed)) for seed in range(3)]
    cache = ShardCache(folder, 3 * SIZE)
    for process in processes:
        process.start()
    try:
        largest = 0
        while any(process.is_alive() for process in processes):
            largest = max(largest, _occupied(folder))
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
    assert not failed.exists()
    assert 0 < largest <= 3 * SIZE
    assert cache.usage().peak == 3 * SIZE
    assert cache.usage().removed > 0

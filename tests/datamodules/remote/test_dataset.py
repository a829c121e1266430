"""Tests for data sets on an S3 server and on a web server, read in one process."""

import gc
import logging
import os
import re
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from threading import Timer
from typing import Any

import fsspec
import pytest
from lightning.pytorch import Trainer
from s3fs import S3FileSystem

from benchmarks.storage_proxy import StorageProxy
from datamodules.remote import storage
from datamodules.remote.cache import ShardCache
from datamodules.remote.dataset import RemoteDataset
from datamodules.shards import loader
from datamodules.shards.module import ShardDataModule
from pocketdit.commands.main import main
from pocketdit.errors import ConfigError, RunError
from tests.fuzz.tar_files import edit_member

Bytes = list[tuple[list[int], list[str], bytes]]


def _read(path: str, count: int = 20, **options: Any) -> tuple[Bytes, Bytes]:
    """Return the first ``count`` training batches and all validation batches."""
    options = {"batch_size": 4, "workers": 0, "window": 2, "crop": "random", "flip": True, **options}
    module = ShardDataModule(path, **options)
    training, validation = module.train_dataloader(), module.val_dataloader()
    try:
        return [_bytes(batch) for batch in islice(training, count)], [_bytes(batch) for batch in validation]
    finally:
        module.teardown()


def _bytes(batch: dict[str, Any]) -> tuple[list[int], list[str], bytes]:
    assert not batch["skipped"]
    return batch["ids"].tolist(), batch["captions"], batch["images"].numpy().tobytes()


def _shard_requests(proxy: StorageProxy) -> list[int]:
    return [count for request, count in proxy.requests.items() if request.startswith("GET") and ".tar" in request]


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_batches_equal_local_ones(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], workers: int
) -> None:
    data = make_dataset()
    assert _read(upload(data), workers=workers) == _read(str(data))


def test_web_server_needs_no_listing(make_dataset: Callable[..., Path], web_server: str) -> None:
    data = make_dataset()
    assert _read(f"{web_server}/tiny") == _read(str(data))


def test_opening_reads_no_shard(
    make_dataset: Callable[..., Path],
    upload: Callable[[Path], str],
    moto_port: int,
    s3_environment: Callable[[int], None],
) -> None:
    address = upload(make_dataset())
    with StorageProxy(moto_port) as proxy:
        s3_environment(proxy.port)
        for _ in range(2):
            ShardDataModule(address, batch_size=4).setup()
        assert _shard_requests(proxy) == []
        assert sum("index.safetensors" in request for request in proxy.requests if request.startswith("GET")) == 2


@pytest.mark.parametrize("damage", ["missing", "of another build", "garbage"])
def test_index_that_does_not_fit_is_built_from_the_shards_once(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], cache_folder: Path, damage: str
) -> None:
    data = make_dataset()
    index = data / "train" / "index.safetensors"
    if damage == "garbage":
        index.write_bytes(b"garbage")
    elif damage == "missing":
        index.unlink()
    else:
        index.write_bytes((make_dataset(samples_per_shard=6, name="other") / "train" / index.name).read_bytes())
    address = upload(data)
    for _ in range(2):
        module = ShardDataModule(address, batch_size=4)
        module.setup()
        assert module.fingerprint == ShardDataModule(str(data), batch_size=4).fingerprint
    assert ShardCache(cache_folder / "shards", 0).usage().downloads == 6


def test_web_server_without_an_index_is_refused(make_dataset: Callable[..., Path], web_server: str) -> None:
    (make_dataset() / "train" / "index.safetensors").unlink()
    with pytest.raises(
        ConfigError, match=r"tiny/train/index.safetensors is missing or damaged, and web servers cannot"
    ):
        ShardDataModule(f"{web_server}/tiny", batch_size=4).setup()


def test_shard_replaced_in_storage_is_read_anew(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str]
) -> None:
    """The cache does not return the old shard, because its key includes the ETag."""
    data = make_dataset()
    (data / "train" / "index.safetensors").unlink()
    before = _read(upload(data), caption="short")
    replaced = data / "train" / "00002.tar"
    replaced.write_bytes(replaced.read_bytes().replace(b"short 15", b"other 15"))
    after = _read(upload(data), caption="short")
    assert before != after == _read(str(data), caption="short")
    assert any("other 15" in captions for _, captions, _ in after[0])


def test_shard_with_another_content_than_the_index_records_ends_the_run(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset()
    shard = data / "train" / "00002.tar"
    shard.write_bytes(shard.read_bytes().replace(b"short 15", b"other 15"))
    monkeypatch.setattr(storage, "PATIENCE", 1e6)  # the download must fail at once instead of being retried
    with pytest.raises(RunError, match=r"train/00002.tar: its hash differs from the hash in the index; upload the"):
        _read(upload(data))


def test_shard_that_stays_unavailable_ends_the_run(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str]
) -> None:
    address = upload(make_dataset())
    module = ShardDataModule(address, batch_size=4, workers=1, window=2)
    module.setup()
    client = fsspec.filesystem("s3", skip_instance_cache=True)
    client.rm(f"{address}/train/00003.tar")
    with pytest.raises(RunError, match=r"^s3://.*/train/00003.tar: no longer exists$"):
        list(islice(module.train_dataloader(), module.batches_per_epoch))
    module.teardown()


def test_shard_of_another_version_is_not_used(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], tmp_path: Path
) -> None:
    """If the hash of a shard is unknown, its version (ETag) is compared."""
    data = make_dataset()
    remote = storage.Storage(upload(data))
    opened = remote.list_shards("train")[2]
    remote.download(opened, tmp_path / "copy")
    shard = data / "train" / "00002.tar"
    for content in (shard.read_bytes().replace(b"short 15", b"other 15"), shard.read_bytes()[:-512]):
        shard.write_bytes(content)
        upload(data)
        with pytest.raises(RunError, match=r"^s3://.*/train/00002.tar: has changed in storage since it was opened$"):
            remote.download(opened, tmp_path / "copy")


def test_replaced_shard_of_another_size_is_named_at_once(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset()
    module = ShardDataModule(upload(data), batch_size=4, workers=0, window=2)
    module.setup()
    shard = data / "train" / "00002.tar"
    for content in (shard.read_bytes()[:-512], bytes(10 * shard.stat().st_size)):
        shard.write_bytes(content)
        upload(data)
        monkeypatch.setattr(storage, "PATIENCE", 1e6)  # the download must fail at once instead of being retried
        with pytest.raises(RunError, match=r"^s3://.*/train/00002.tar: has changed in storage since it was opened$"):
            list(islice(module.train_dataloader(), module.batches_per_epoch))
        module.teardown()


def test_workers_make_one_client_and_do_not_close_those_of_their_parent(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = upload(make_dataset())
    log = tmp_path / "log"

    def record(name: str) -> None:
        method = getattr(S3FileSystem, name)

        def recorded(*args: Any, **options: Any) -> Any:
            with log.open("a") as file:
                file.write(f"{name} {os.getpid()}\n")
            return method(*args, **options)

        monkeypatch.setattr(S3FileSystem, name, staticmethod(recorded) if name == "close_session" else recorded)

    gc.disable()  # keep the parent's unused client in memory until the worker starts
    try:
        record("__init__")
        record("close_session")
        RemoteDataset(address).read_info()
        module = ShardDataModule(address, batch_size=4, workers=1, window=3)
        module.setup()
        monkeypatch.setattr(loader, "use_all_processors", _collect_garbage)
        assert len(list(islice(module.train_dataloader(), 10))) == 10
        module.teardown()
    finally:
        gc.enable()
    calls = [line.split() for line in log.read_text().splitlines()]
    assert [name for name, pid in calls if pid != str(os.getpid())] == ["__init__"]


def _collect_garbage(_worker: int) -> None:
    gc.collect()


def test_server_that_is_out_of_reach_is_waited_for_and_then_named(
    make_dataset: Callable[..., Path],
    upload: Callable[[Path], str],
    moto_port: int,
    s3_environment: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_dataset()
    address = upload(data)
    with StorageProxy(moto_port) as proxy:
        s3_environment(proxy.port)
        proxy.is_down = True
        with pytest.raises(
            RunError, match=r"dataset.json: cannot be read \(\d+ attempts? in \d+ seconds, the last error: .*\)"
        ):
            RemoteDataset(address).read_info()
        monkeypatch.setattr(storage, "PATIENCE", 60.0)
        timer = Timer(3, lambda: setattr(proxy, "is_down", False))
        timer.start()
        assert _read(address) == _read(str(data))
        timer.join()


def test_refused_access_is_not_repeated(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = upload(make_dataset())
    monkeypatch.setattr(storage, "PATIENCE", 1e6)
    remote = storage.Storage(address)
    monkeypatch.setattr(remote._own_client(), "info", _refuse)
    start = time.monotonic()
    with pytest.raises(RunError, match=r"dataset.json: access was refused \(Access Denied\); check the address and"):
        remote.find("dataset.json")
    assert time.monotonic() - start < 60


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError("Access Denied")


def test_address_without_a_data_set_is_refused(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], web_server: str
) -> None:
    address = upload(make_dataset()).replace("tiny", "other")
    for missing in (address, f"{web_server}/other"):
        with pytest.raises(ConfigError, match=rf"^data.init_args.path: {missing} does not contain a data set"):
            ShardDataModule.require_available({"path": missing})


def test_cache_too_small_for_a_shard_or_for_two_windows_is_refused(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = upload(make_dataset())
    largest = max(file.size for file in storage.Storage(address).list_shards("train"))
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE_LIMIT", str(largest - 1))
    with pytest.raises(ConfigError, match=r"^POCKETDIT_SHARD_CACHE_LIMIT: .* but a shard of s3://.* takes "):
        ShardDataModule(address, batch_size=4).setup()
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE_LIMIT", str(4 * largest))
    with pytest.raises(ConfigError, match=r"two windows of 3 shards, .* or data.init_args.window to at most 2$"):
        ShardDataModule(address, batch_size=4, window=3).setup()
    with pytest.raises(ConfigError, match=r"but 6 processes of this node each read a shard"):
        ShardDataModule(address, batch_size=4, window=2, workers=3).train_dataloader()
    ShardDataModule(address, batch_size=4, window=2, workers=2).train_dataloader()


@pytest.mark.parametrize("verb", ["validate", "stats"])
def test_commands_for_folders_refuse_addresses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", verb, "s3://bucket/folder"]) != 0
    shown = capsys.readouterr()
    assert (
        "s3:/bucket/folder: this command reads only local folders; copy the data set to a local folder"
        in shown.out + shown.err
    )


def test_reading_captions_downloads_only_a_few_shards(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], cache_folder: Path
) -> None:
    module = ShardDataModule(upload(make_dataset()), batch_size=4, caption="short")
    captions, is_all = module.read_captions("train", 1000)
    assert captions == [f"short {number}" for number in range(14)]
    assert not is_all
    assert ShardCache(cache_folder / "shards", 0).usage().downloads == 2


def test_a_warning_names_a_missing_shard(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    data = make_dataset()
    (data / "train" / "00001.tar").unlink()
    with caplog.at_level(logging.WARNING, logger="datamodules"):
        ShardDataModule(upload(data), batch_size=4).setup()
    assert "train: 33 readable samples, but dataset.json records 40" in caplog.text


def test_large_file_ends_at_its_announced_size(tmp_path: Path, web_server: str) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "x").write_bytes(os.urandom(20 << 20))
    remote = storage.Storage(f"{web_server}/tiny")
    file = remote.find("x")
    assert file is not None
    with pytest.raises(RunError, match="x: has changed in storage since it was opened"):
        remote.download(file._replace(size=1000, sha256="-"), tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size < 20 << 20


class _Rank:
    """A stand-in for the trainer of one rank out of two."""

    world_size = num_devices = 2

    def __init__(self, rank: int) -> None:
        self.global_rank = rank
        self.fit_loop = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False).fit_loop


def _read_as_two_ranks(address: str, steps: int, start: int = 0) -> list[Bytes]:
    modules = [ShardDataModule(address, batch_size=4, workers=1, window=2) for _ in range(2)]
    for rank, module in enumerate(modules):
        module.trainer = _Rank(rank)  # type: ignore[assignment]  # a stand-in
        module.load_state_dict({**module.state_dict(), "batches": start})
    loaders = [iter(module.train_dataloader()) for module in modules]
    seen: list[Bytes] = [[], []]
    for _ in range(start, steps):
        for rank in range(2):
            seen[rank].append(_bytes(next(loaders[rank])))
    for module in modules:
        module.teardown()
    return seen


def test_ranks_of_a_node_download_each_shard_once_and_continue_after_the_cache_is_lost(
    make_dataset: Callable[..., Path],
    upload: Callable[[Path], str],
    moto_port: int,
    s3_environment: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_dataset(train=47)  # the last shard has fewer samples
    address = upload(data)
    with StorageProxy(moto_port, latency=0.01) as proxy:
        s3_environment(proxy.port)
        whole = _read_as_two_ranks(address, 16)
        assert _shard_requests(proxy) == [1] * 7
    assert whole == _read_as_two_ranks(str(data), 16)
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE", str(tmp_path / "empty"))
    s3_environment(moto_port)
    assert _read_as_two_ranks(address, 16, start=9) == [rank[9:] for rank in whole]


def test_data_set_of_broken_samples_is_named_by_its_address(
    make_dataset: Callable[..., Path], upload: Callable[[Path], str], cache_folder: Path
) -> None:
    data = make_dataset(train=4, samples_per_shard=4)
    for key in range(4):
        edit_member(data / "train" / "00000.tar", key, "png", b"not an image")
    (data / "train" / "index.safetensors").unlink()
    address = upload(data)
    module = ShardDataModule(address, batch_size=2, workers=0)
    with pytest.raises(RunError, match=f"^{re.escape(address)}/train: all 4 samples are broken") as error:
        list(islice(module.train_dataloader(), module.batches_per_epoch))
    assert str(cache_folder) not in str(error.value)
    assert str(error.value).endswith("copy the data set to a folder, and check it with: lightning data validate FOLDER")

"""Tests that addresses are recognized as local or remote, and that invalid ones are refused with the reason."""

from pathlib import Path

import fsspec
import pytest

from datamodules.remote.address import local_folder, protocol_of, require_readable
from datamodules.remote.settings import cache_folder, cache_limit, format_size
from datamodules.shards.module import ShardDataModule
from pocketdit.config import secrets
from pocketdit.errors import ConfigError


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("data/mine", None),
        ("/data/mine", None),
        ("~/mine", None),
        ("file:///data/mine", None),
        ("C:mine", None),
        ("s3://bucket/folder", "s3"),
        ("S3://bucket/folder", "s3"),
        ("https://host/folder", "https"),
        ("hf://datasets/user/name", "hf"),
    ],
)
def test_protocol_decides_whether_a_path_is_local(path: str, protocol: str | None) -> None:
    assert protocol_of(path) == protocol


def test_local_folder() -> None:
    assert local_folder("file:///data/mine") == Path("/data/mine")
    assert local_folder("~/mine") == Path.home() / "mine"
    assert local_folder("data/mine") == Path("data/mine")


@pytest.mark.parametrize(
    "address", ["s3://bucket/folder", "https://host/folder", "http://host:80/f", "hf://datasets/user/name"]
)
def test_address_with_an_installed_client_is_readable(address: str) -> None:
    require_readable(address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gs://bucket/folder", "gs://bucket/folder needs a package that is not installed: .*gcsfs"),
        ("s4://bucket/folder", "has the unknown protocol 's4'; use s3://, gs://, hf:// or https://"),
        ("htps://host/folder", "has the unknown protocol 'htps'; did you mean https://"),
        ("s3://", "is not the address of a folder, such as s3://BUCKET/FOLDER"),
        ("s3://bucket/../other", "is not the address of a folder"),
        ("simplecache::s3://bucket/folder", "chains protocols"),
        ("https://host/folder?versions=all", "must not contain a user"),
        ("https://user@host/folder", "must not contain a user"),
        ("https://user:hunter2@host/folder", r"https://user:\*\*\*@host/folder contains a password or token"),
        ("https://host/folder?token=hunter2", r"token=\*\*\* contains a password or token"),
    ],
)
def test_address_that_cannot_be_used_is_refused_in_one_line(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        require_readable(address)
    assert str(refusal.value).startswith("data.init_args.path: ")
    assert "\n" not in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_address_with_a_secret_from_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A downloaded YAML file must not be able to send credentials to a server that it chooses."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefgh12345678")
    monkeypatch.setattr(secrets, "_seen", set())
    secrets.remember("https://host/${oc.env:AWS_SECRET_ACCESS_KEY}")
    with pytest.raises(ConfigError, match=r"https://host/\*\*\* contains a password or token") as refusal:
        ShardDataModule.require_available({"path": "https://host/abcdefgh12345678"})
    assert "abcdefgh" not in str(refusal.value)


def test_options_for_every_web_server_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "https", {"headers": {"Authorization": "Bearer hunter2"}})
    with pytest.raises(ConfigError, match="would be sent to the server of any address") as refusal:
        require_readable("https://host/folder")
    assert "hunter2" not in str(refusal.value)
    require_readable("s3://bucket/folder")


@pytest.mark.parametrize(
    ("text", "limit"), [("1000", 1000), ("200GB", 200 * 10**9), ("1.5 tb", 1_500_000_000_000), ("3k", 3000)]
)
def test_limit_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, limit: int) -> None:
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE_LIMIT", text)
    assert cache_limit(tmp_path, 0) == limit
    assert cache_limit(tmp_path, 0) == cache_limit(tmp_path, 10**6)


def test_invalid_limit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE_LIMIT", "much")
    with pytest.raises(ConfigError, match=r"^POCKETDIT_SHARD_CACHE_LIMIT: 'much' is not a size, such as 200GB"):
        cache_limit(tmp_path, 0)


def test_defaults_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("POCKETDIT_SHARD_CACHE", "POCKETDIT_SHARD_CACHE_LIMIT", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path.home() / ".cache" / "pocketdit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "pocketdit"
    # The space that the cache occupies counts as free. The tolerance allows for other processes that write to the disk.
    assert cache_limit(tmp_path, 10**15) == pytest.approx(0.75 * 10**15, rel=0.05)


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 bytes"), (1000, "1.0 kB"), (8_589_934_592, "8.6 GB"), (1_010_000, "1.1 MB")]
)
def test_sizes_are_rounded_up(size: int, text: str) -> None:
    assert format_size(size) == text

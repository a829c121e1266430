"""Reads the files of a remote data set, and repeats requests while the storage service is temporarily unreachable."""

import errno
import gc
import hashlib
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.callbacks import Callback

from datamodules.remote.address import WEB, protocol_of, require_readable
from datamodules.remote.refusals import is_final
from pocketdit.config.secrets import mask
from pocketdit.errors import RunError
from pocketdit.names import one_line

_LOG = logging.getLogger(__name__)
PATIENCE = 60.0  # seconds of failed attempts after which a read fails
_SILENCE = 10.0  # seconds of failed attempts after which a warning is logged
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 15.0
_CONNECT_TIMEOUT, _READ_TIMEOUT = 15, 60
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Names under which storage services report the version of a file's content.
_TAGS = ("ETag", "etag", "md5Hash", "md5", "crc32c", "blob_id", "LastModified", "last_modified", "mtime")

# Clients of the parent process. A forked process keeps them here, because closing them would close the connections of
# the parent.
_inherited: list[AbstractFileSystem] = []
# A forked process must not garbage-collect clients that the parent no longer used, because that would also close the
# connections of the parent.
os.register_at_fork(after_in_child=gc.freeze)

T = TypeVar("T")


class RemoteFile(NamedTuple):
    """A file of a remote data set.

    Attributes:
        name: Path in the data set, for example "train/00000.tar".
        size: Size in bytes.
        tag: Version of the content, such as the ETag; "" if the service reports none.
        sha256: Hash of the content according to the data set's index, or "" if the index has no hash.
    """

    name: str
    size: int
    tag: str
    sha256: str = ""


class Storage:
    """The folder of a remote data set. Each process creates its own client, because clients do not survive a fork.

    Args:
        address: Address of the folder, such as s3://BUCKET/FOLDER.

    Raises:
        ConfigError: The address is invalid, or a package is missing.
    """

    def __init__(self, address: str) -> None:
        require_readable(address)
        self.address = address.rstrip("/")
        self._client: AbstractFileSystem | None = None
        self._process = 0
        self._warned = float("-inf")

    @property
    def can_list(self) -> bool:
        """Whether the service can list a folder. Web servers cannot."""
        return protocol_of(self.address) not in WEB

    def connect(self) -> None:
        """Create this process's client, so that threads that start later share it."""
        self._own_client()

    def list_shards(self, split: str) -> list[RemoteFile]:
        """Return the shards of a split, sorted by name."""

        def attempt() -> list[RemoteFile]:
            client = self._own_client()
            try:
                entries = client.ls(self._path(client, split), detail=True)
            except FileNotFoundError:  # storage services do not keep empty folders
                return []
            return [
                _remote_file(f"{split}/{entry['name'].rpartition('/')[2]}", entry)
                for entry in entries
                if entry["type"] == "file" and entry["name"].endswith(".tar")
            ]

        return sorted(self._patiently(f"{split}/", attempt))

    def list_files(self, suffix: str) -> list[RemoteFile]:
        """Return the files with a suffix in the folder and its subfolders, sorted by path."""

        def attempt() -> list[RemoteFile]:
            client = self._own_client()
            folder = self._path(client, "").rstrip("/")
            entries: dict[str, dict[str, Any]] = client.find(folder, detail=True)
            return [
                _remote_file(path.removeprefix(f"{folder}/"), entry)
                for path, entry in entries.items()
                if path.lower().endswith(suffix)
            ]

        return sorted(self._patiently("", attempt), key=lambda file: PurePosixPath(file.name))

    def find(self, name: str) -> RemoteFile | None:
        """Return a file of the data set, or None if it does not exist."""

        def attempt() -> RemoteFile:
            client = self._own_client()
            return _remote_file(name, client.info(self._path(client, name)))

        try:
            return self._patiently(name, attempt)
        except FileNotFoundError:
            return None

    def download(self, file: RemoteFile, to: Path) -> None:
        """Download a file, and repeat the download if the size or the hash of the content is wrong.

        Args:
            file: The file.
            to: Path to which the content is written. An existing file is overwritten in place.

        Raises:
            RunError: The file remains unavailable, has changed in storage, or does not match the index.
            OSError: The file cannot be written.
        """
        where = f"{self.address}/{file.name}"
        wrong_hashes: set[str] = set()
        try:
            self._patiently(file.name, lambda: self._transfer(file, to, wrong_hashes))
        except FileNotFoundError as error:
            if not to.parent.is_dir():  # the local folder is missing, not the file in storage
                raise
            raise RunError(f"{where}: no longer exists") from error
        except _ChangedError as error:
            raise RunError(f"{where}: has changed in storage since it was opened") from error
        except _WrongContentError as error:
            raise RunError(
                f"{where}: its hash differs from the hash in the index; upload the data set again"
            ) from error

    def _transfer(self, file: RemoteFile, to: Path, wrong_hashes: set[str]) -> None:
        """Download a file once, and check its size and its hash or version.

        Args:
            file: The file.
            to: Path to which the content is written.
            wrong_hashes: The wrong hashes of earlier attempts, to which this method adds.
        """
        client = self._own_client()
        path = self._path(client, file.name)
        try:
            client.get_file(path, str(to), callback=_SizeLimit(file.size))
            if (size := to.stat().st_size) != file.size:
                raise _IncompleteError(f"received {size} of {file.size} bytes")
            if file.sha256 and (content := _sha256(to)) != file.sha256:
                if content in wrong_hashes:  # the same wrong content twice is not a transmission error
                    raise _WrongContentError
                wrong_hashes.add(content)
                raise _IncompleteError("the hash of the content differs from the hash in the index")
        except _IncompleteError:
            self._require_version(client, path, file)
            raise
        # Without a hash, only the version shows whether the content is what the index describes.
        if not file.sha256:
            self._require_version(client, path, file)

    def _require_version(self, client: AbstractFileSystem, path: str, file: RemoteFile) -> None:
        """Check that the file in storage still has the expected size and version.

        Raises:
            _ChangedError: The size or the version differs.
        """
        now = _remote_file(file.name, client.info(path))
        has_version = file.tag != file.sha256  # for web servers, the tag is the hash from the index
        if now.size != file.size or (has_version and now.tag != file.tag):
            raise _ChangedError

    def _patiently(self, name: str, attempt: Callable[[], T]) -> T:
        """Call a function until it succeeds, with increasing delays between attempts.

        Raises:
            FileNotFoundError: The file does not exist.
            _ChangedError: The file in storage is no longer the expected version.
            _WrongContentError: The file in storage does not match the index.
            OSError: The disk is full.
            RunError: The request was refused, or no attempt succeeded for ``PATIENCE`` seconds.
        """
        start, delay, attempts = time.monotonic(), _FIRST_DELAY, 0
        where = f"{self.address}/{name}"
        while True:
            attempts += 1
            try:
                return attempt()
            except (FileNotFoundError, _ChangedError, _WrongContentError):
                raise
            except Exception as error:  # clients raise many types of exceptions
                if isinstance(error, OSError) and error.errno in _FULL_DISK:
                    raise
                reason = one_line(mask(str(error) or type(error).__name__))
                if is_final(error):
                    raise RunError(
                        f"{where}: access was refused ({reason}); check the address and the credentials"
                    ) from error
                elapsed = time.monotonic() - start
                if elapsed + delay > PATIENCE:
                    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
                    raise RunError(
                        f"{where}: cannot be read ({times} in {elapsed:.0f} seconds, the last error: {reason}); try "
                        "again when the storage can be reached"
                    ) from error
            self._warn(where, reason, elapsed)
            # Random delays keep many processes from trying again at the same moment.
            time.sleep(delay * random.SystemRandom().uniform(0.5, 1))
            delay = min(2 * delay, _LONGEST_DELAY)

    def _warn(self, where: str, reason: str, elapsed: float) -> None:
        """Log a warning that a read is being repeated, once per outage in each process."""
        now = time.monotonic()
        if elapsed > _SILENCE and now - self._warned > PATIENCE:
            self._warned = now
            _LOG.warning("%s: cannot be read (%s); trying again for %.0f seconds", where, reason, PATIENCE - elapsed)

    def _own_client(self) -> AbstractFileSystem:
        if self._client is not None and self._process != os.getpid():
            _inherited.append(self._client)
            self._client = None
        if self._client is None:
            protocol = protocol_of(self.address)
            assert protocol is not None
            cls = fsspec.get_filesystem_class(protocol)
            options = {**cls._get_kwargs_from_urls(self.address), **_client_options(protocol)}
            self._client = cls(skip_instance_cache=True, use_listings_cache=False, **options)
            self._process = os.getpid()
        return self._client

    def _path(self, client: AbstractFileSystem, name: str) -> str:
        return str(client._strip_protocol(f"{self.address}/{name}"))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None, "_process": 0}


class _ChangedError(Exception):
    """The file in storage is no longer the expected version."""


class _WrongContentError(Exception):
    """The file in storage does not match the index."""


class _IncompleteError(Exception):
    """A transfer ended early or delivered the wrong content."""


class _SizeLimit(Callback):  # type: ignore[misc]  # fsspec is not typed
    """Aborts a download that delivers more bytes than expected, so that the cache does not exceed its limit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.value > self._limit:
            raise _IncompleteError(f"received more than {self._limit} bytes")


def _client_options(protocol: str) -> dict[str, Any]:
    if protocol in WEB:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=_READ_TIMEOUT)
        return {"client_kwargs": {"timeout": timeout}}
    if protocol in ("s3", "s3a"):
        # This module already repeats requests and downloads several shards at a time, so the client does neither.
        timeouts = {"connect_timeout": _CONNECT_TIMEOUT, "read_timeout": _READ_TIMEOUT}
        return {"config_kwargs": {"retries": {"max_attempts": 0}, **timeouts}, "max_concurrency": 1}
    return {}


def _remote_file(name: str, info: Mapping[str, Any]) -> RemoteFile:
    tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
    size = info.get("size")
    if size is None:
        raise _IncompleteError("the server does not report the size")
    return RemoteFile(name, int(size), tag)


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()

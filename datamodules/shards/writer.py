"""Writes data sets. Equal samples give equal bytes.

A data set is built in a hidden folder inside its own folder, and moved to its place when it is complete.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import webdataset

from datamodules.shards.replacement import BUILDING, hold_write_lock, remove, replace_contents
from datamodules.shards.schema import (
    INFO_FILE,
    PARTS,
    SPLITS,
    Attribution,
    DatasetInfo,
    Kind,
    Sample,
    extensions_of,
    is_complete,
    serialize_info,
    serialize_sample,
)
from pocketdit.errors import RunError, UserError
from pocketdit.files import write_atomically


class DatasetWriter:
    """A context manager that writes a data set.

    Exiting the context without an error completes the data set and replaces the previous one. Until then, and if the
    writer fails or is killed, the previous data set stays as it is. The next writer for the same folder starts over.

    Args:
        out: Folder of the data set.
        kind: Whether samples are images or latents.
        name: Short name of the data set.
        source: Origin of the data, for human readers.
        autoencoder: Description of the autoencoder that encoded the latents; required for kind "latent".
        samples_per_shard: Number of samples at which a shard is complete. An incomplete shard is kept in memory.
        bytes_per_shard: Size in bytes at which a shard is complete.
        overwrite: Replace a complete data set. Both need disk space until the new one is complete.
        validation_is_train: Record that the validation split repeats the training split.
        attribution: License and authors of the images, if they must be named.

    Raises:
        UserError: ``out`` contains a complete data set and ``overwrite`` is false, or it contains the folder of a split
            that was not created by a writer.
        RunError: Another writer is writing to ``out``.
    """

    def __init__(
        self,
        out: Path,
        *,
        kind: Kind,
        name: str,
        source: str,
        autoencoder: dict[str, Any] | None = None,
        samples_per_shard: int = 1000,
        bytes_per_shard: int = 128 << 20,
        overwrite: bool = False,
        validation_is_train: bool = False,
        attribution: Attribution | None = None,
    ) -> None:
        self._out, self._kind, self._name, self._source = out, kind, name, source
        self._autoencoder, self._validation_is_train = autoencoder, validation_is_train
        self._attribution = attribution
        limits = samples_per_shard, bytes_per_shard
        self._building = out / BUILDING
        self._splits: dict[str, _SplitWriter] = {
            split: _SplitWriter(self._building / split, *limits) for split in SPLITS
        }
        _require_free(out, overwrite)
        self._lock = ExitStack()
        with _name_folder(out):
            out.mkdir(parents=True, exist_ok=True)
            self._lock.enter_context(hold_write_lock(out))
            _require_free(out, overwrite)  # another process may have finished in between
            remove(self._building)
            for split in SPLITS:
                (self._building / split).mkdir(parents=True)

    def add(self, split: str, sample: Sample) -> None:
        """Add a sample to "train" or "validation"."""
        if sample.extension not in extensions_of(self._kind):
            raise ValueError(f"a data set of kind {self._kind!r} cannot store a .{sample.extension}")
        with _name_folder(self._out):
            self._splits[split].add(serialize_sample(sample))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            try:
                if error is None:
                    with _name_folder(self._out):
                        self._finish()
            finally:
                remove(self._building)

    def _finish(self) -> None:
        fingerprint = hashlib.sha256()
        for split in self._splits.values():
            split.close()
            fingerprint.update(split.digest.digest())
        info = DatasetInfo(
            kind=self._kind,
            name=self._name,
            source=self._source,
            samples={name: split.total for name, split in self._splits.items()},
            fingerprint=fingerprint.hexdigest()[:16],
            autoencoder=self._autoencoder,
            validation_is_train=self._validation_is_train,
            attribution=self._attribution,
        )
        write_atomically(self._building / INFO_FILE, serialize_info(info))
        replace_contents(self._out, PARTS)


@contextmanager
def _name_folder(out: Path) -> Iterator[None]:
    """Name the data set in errors of the operating system. For example, a full disk causes an error without a name."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from error


class _SplitWriter:
    def __init__(self, folder: Path, samples_per_shard: int, bytes_per_shard: int) -> None:
        self.total = 0
        self.digest = hashlib.sha256()
        self._folder, self._samples_limit, self._bytes_limit = folder, samples_per_shard, bytes_per_shard
        self._shard = 0
        self._pending: list[dict[str, Any]] = []
        self._pending_bytes = 0

    def add(self, members: dict[str, bytes]) -> None:
        self._pending.append({"__key__": f"{self.total:08d}", **members})
        self._pending_bytes += sum(map(len, members.values()))
        self.total += 1
        if len(self._pending) >= self._samples_limit or self._pending_bytes >= self._bytes_limit:
            self.close()

    def close(self) -> None:
        """Write the pending samples as one shard."""
        if not self._pending:
            return
        path = write_atomically(self._folder / f"{self._shard:05d}.tar", self._write_shard)
        with path.open("rb") as file:
            self.digest.update(hashlib.file_digest(file, "sha256").digest())
        self._shard += 1
        self._pending, self._pending_bytes = [], 0

    def _write_shard(self, path: Path) -> None:
        # Owner and time are fixed, so the fingerprint depends only on the samples.
        with (
            path.open("wb") as file,
            webdataset.TarWriter(file, encoder=False, user="", group="", mode=0o644, mtime=0) as tar,
        ):
            for sample in self._pending:
                tar.write(sample)


def _require_free(out: Path, overwrite: bool) -> None:
    complete, started = is_complete(out), (out / BUILDING).exists()
    if complete and not overwrite:
        raise UserError(f"{out}: already contains a complete data set; choose another folder, or pass --overwrite")
    if not complete and not started and any((out / split).exists() for split in SPLITS):
        raise UserError(
            f"{out}: contains a train or validation folder that is not part of a data set; choose another folder"
        )

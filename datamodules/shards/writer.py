"""Writes data sets. The same samples always produce the same bytes.

A data set is built in a hidden folder inside its own folder, and moved into place when it is complete. If a build is
interrupted and can be resumed, the hidden folder and its finished shards are kept.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import webdataset

from datamodules.shards.attribution import Attribution
from datamodules.shards.index import write_index
from datamodules.shards.replacement import BUILDING, hold_write_lock, remove, replace_contents
from datamodules.shards.schema import (
    INFO_FILE,
    PARTS,
    SPLITS,
    DatasetInfo,
    Kind,
    Sample,
    extensions_of,
    is_complete,
    serialize_info,
    serialize_sample,
)
from datamodules.shards.tar_index import require_own_shards
from pocketdit.errors import RunError, UserError
from pocketdit.files import sha256_of, write_atomically

_KEY = "key"  # file that identifies the build


class DatasetWriter:
    """A context manager that writes a data set.

    Exiting the context without an error completes the data set and replaces the previous data set. Until then, and if
    the writer fails or is killed, the previous data set remains unchanged. After an interruption, a writer with the
    same ``resume_key`` resumes the build, and only counts the samples that are already in finished shards. Any other
    writer starts over.

    Args:
        out: Folder of the data set.
        kind: Whether samples are images or latents.
        name: Short name of the data set.
        source: Human-readable origin of the data.
        autoencoder: Description of the autoencoder that encoded the latents; required for kind "latent".
        samples_per_shard: Number of samples at which a shard is complete. An incomplete shard is kept in memory.
        bytes_per_shard: Size in bytes at which a shard is complete.
        overwrite: Replace a complete data set. Both data sets occupy disk space until the new data set is complete.
        validation_is_train: Record that the validation split repeats the training split.
        attribution: License and authors of the images, if attribution is required.
        resume_key: String that identifies everything that determines the samples. With None, every build starts over.

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
        resume_key: str | None = None,
    ) -> None:
        self._out, self._kind, self._name, self._source = out, kind, name, source
        self._autoencoder, self._validation_is_train = autoencoder, validation_is_train
        self._attribution, self._resume_key = attribution, resume_key
        self.imported: dict[str, Any] | None = None
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
            _require_free(out, overwrite)  # another process may have completed a data set in the meantime
            if not self._resume():
                self._start_over()

    @property
    def workspace(self) -> Path:
        """A folder for temporary files of the build. It is removed when the data set is complete."""
        return self._building / "workspace"

    @property
    def stored(self) -> dict[str, int]:
        """Number of samples in finished shards of each split."""
        return {name: split.stored for name, split in self._splits.items()}

    @property
    def added(self) -> dict[str, int]:
        """Number of samples added to each split."""
        return {name: split.total for name, split in self._splits.items()}

    def add(self, split: str, sample: Sample) -> None:
        """Add a sample to "train" or "validation"."""
        self.add_when_needed(split, lambda: sample)

    def add_when_needed(self, split: str, load: Callable[[], Sample]) -> None:
        """Add a sample that is loaded only if no finished shard contains it.

        Args:
            split: "train" or "validation".
            load: Function that returns the sample.
        """
        with _name_folder(self._out):
            self._splits[split].add(lambda: self._serialize(load()))

    def _serialize(self, sample: Sample) -> dict[str, bytes]:
        if sample.extension not in extensions_of(self._kind):
            raise ValueError(f"a data set of kind {self._kind!r} cannot store a .{sample.extension} file")
        return serialize_sample(sample)

    def _resume(self) -> bool:
        """Resume an interrupted build with the same key by reading its list of finished shards.

        Returns:
            Whether such a build exists and all of its finished shards are present.
        """
        key = self._building / _KEY
        if self._resume_key is None or not key.is_file() or key.read_text(errors="replace") != self._resume_key:
            return False
        return all(split.resume() for split in self._splits.values())

    def _start_over(self) -> None:
        remove(self._building)
        for split in SPLITS:
            (self._building / split).mkdir(parents=True)
        self.workspace.mkdir()
        if self._resume_key is not None:
            write_atomically(self._building / _KEY, self._resume_key)

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
            except BaseException as failure:
                error = failure
                raise
            finally:
                if not self._can_resume_after(error):
                    remove(self._building)

    def _can_resume_after(self, error: BaseException | None) -> bool:
        """Return whether the same command can resume the build: after an interruption, but not after invalid input."""
        is_wrong_input = isinstance(error, UserError) and not isinstance(error, RunError)
        return error is not None and self._resume_key is not None and not is_wrong_input

    def _finish(self) -> None:
        fingerprint = hashlib.sha256()
        for name, split in self._splits.items():
            split.close()
            fingerprint.update(split.digest.digest())
            write_index(self._building / name, self._kind, split.hashes)
        info = DatasetInfo(
            kind=self._kind,
            name=self._name,
            source=self._source,
            samples={name: split.total for name, split in self._splits.items()},
            fingerprint=fingerprint.hexdigest()[:16],
            autoencoder=self._autoencoder,
            validation_is_train=self._validation_is_train,
            attribution=self._attribution,
            imported=self.imported,
        )
        write_atomically(self._building / INFO_FILE, serialize_info(info))
        replace_contents(self._out, PARTS)


@contextmanager
def _name_folder(out: Path) -> Iterator[None]:
    """Add the path of the data set to errors of the operating system, such as a full disk."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from error


def write_tar(path: Path, samples: Iterable[Mapping[str, Any]]) -> None:
    """Write samples to a tar. The bytes depend only on the samples, because the owner and the time are fixed.

    Args:
        path: The tar.
        samples: For each sample, a mapping from extensions to member contents and from "__key__" to the sample's key.
    """
    with (
        path.open("wb") as file,
        webdataset.TarWriter(file, encoder=False, user="", group="", mode=0o644, mtime=0) as tar,
    ):
        for sample in samples:
            tar.write(sample)


class _SplitWriter:
    """Writes the shards of a split, and records the number of samples and the hash of each finished shard."""

    def __init__(self, folder: Path, samples_per_shard: int, bytes_per_shard: int) -> None:
        self.total = self.stored = 0
        self.digest = hashlib.sha256()
        self.hashes: dict[str, str] = {}
        self._folder, self._samples_limit, self._bytes_limit = folder, samples_per_shard, bytes_per_shard
        self._list = folder.with_name(f"{folder.name}.finished")
        self._shard = 0
        self._pending: list[dict[str, Any]] = []
        self._pending_bytes = 0

    def resume(self) -> bool:
        """Read the list of finished shards, and return whether all of them exist.

        An incomplete last line is ignored.
        """
        lines = self._list.read_bytes().splitlines(keepends=True) if self._list.exists() else []
        complete = [line for line in lines if line.endswith(b"\n")]
        if not all((self._folder / f"{shard:05d}.tar").is_file() for shard in range(len(complete))):
            return False
        write_atomically(self._list, b"".join(complete))
        for line in complete:
            samples, digest = line.split()
            self._count_shard(int(samples), digest.decode())
        return True

    def add(self, load: Callable[[], dict[str, bytes]]) -> None:
        """Add a sample. ``load`` returns its members, but is called only if no finished shard contains the sample."""
        self.total += 1
        if self.total <= self.stored:
            return
        members = load()
        self._pending.append({"__key__": f"{self.total - 1:08d}", **members})
        self._pending_bytes += sum(map(len, members.values()))
        if len(self._pending) >= self._samples_limit or self._pending_bytes >= self._bytes_limit:
            self.close()

    def close(self) -> None:
        """Write the pending samples as one shard."""
        if not self._pending:
            return
        path = write_atomically(self._folder / f"{self._shard:05d}.tar", self._write_shard)
        samples, digest = len(self._pending), sha256_of(path)
        with self._list.open("ab") as file:
            file.write(f"{samples} {digest}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        self._count_shard(samples, digest)
        self._pending, self._pending_bytes = [], 0

    def _count_shard(self, samples: int, digest: str) -> None:
        self.digest.update(bytes.fromhex(digest))
        self.hashes[f"{self._shard:05d}.tar"] = digest
        self.stored += samples
        self._shard += 1

    def _write_shard(self, path: Path) -> None:
        write_tar(path, self._pending)


def _require_free(out: Path, overwrite: bool) -> None:
    require_own_shards(out)
    complete, started = is_complete(out), (out / BUILDING).exists()
    if complete and not overwrite:
        raise UserError(f"{out}: already contains a complete data set; choose another folder, or pass --overwrite")
    if not complete and not started and any((out / split).exists() for split in SPLITS):
        raise UserError(
            f"{out}: contains a train or validation folder that is not part of a data set; choose another folder"
        )

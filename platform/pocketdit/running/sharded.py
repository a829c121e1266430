"""Sharded checkpoints, in which every rank writes its part of the state (FSDP2).

Each rank computes the CRC-32 of its files while it writes them, and stores them in ``checksums-RANK.json``. When a run
is resumed, the ranks divide the files among themselves and check them, which takes each rank about half a second per
gigabyte.
"""

import io
import json
import pickle
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import metadata
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from typing_extensions import override

from pocketdit.errors import RunError
from pocketdit.files import require_regular_file, write_atomically
from pocketdit.running.disk import explain_write_errors, save_object
from pocketdit.running.gathering import fail_together

TRAINING_STATE = "meta.pt"  # Lightning's name for the state other than weights and optimizers
INDEX = ".metadata"  # torch's name for the index of the shards
CHUNK_BYTES = 1 << 22
# The names that an index may contain. An index is a pickle, which could otherwise run code.
INDEX_NAMES = {
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
    ("torch", "Size"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    *((metadata.__name__, name) for name, value in vars(metadata).items() if isinstance(value, type)),
}


class ChecksumStream(io.RawIOBase):
    """A stream that writes to a file sequentially, and computes the CRC-32 of what it writes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = path.open("wb")
        self.checksum = 0

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, content: Any) -> int:
        self.checksum = zlib.crc32(content, self.checksum)
        return self.file.write(content)

    @override
    def tell(self) -> int:
        return self.file.tell()

    @override
    def flush(self) -> None:
        if not self.file.closed:
            self.file.flush()

    @override
    def fileno(self) -> int:
        return self.file.fileno()

    @override
    def close(self) -> None:
        self.file.close()
        super().close()


class ChecksumFileSystem(FileSystem):
    """File system for torch's writer of sharded checkpoints.

    Attributes:
        checksums: Checksum of each file written, by file name.
    """

    def __init__(self) -> None:
        self.checksums: dict[str, str] = {}

    @override
    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        if mode != "wb":
            with super().create_stream(path, mode) as stream:
                yield stream
            return
        with ChecksumStream(Path(path)) as stream:
            yield stream
        self.checksums[Path(path).name] = f"{stream.checksum:08x}"

    @override
    def rename(self, path: Any, new_path: Any) -> None:
        super().rename(path, new_path)
        self.checksums[Path(new_path).name] = self.checksums.pop(Path(path).name)


class PlainValuePlanner(DefaultLoadPlanner):
    """Planner that loads only tensors and plain values. torch's own planner would also unpickle code."""

    @override
    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        torch.load(value, weights_only=True)
        value.seek(0)
        super().load_bytes(read_item, value)


def save_shards(state: dict[str, Any], rest: Mapping[str, Any], path: Path, rank: int = 0, ranks: int = 1) -> None:
    """Write a sharded checkpoint. This must be called on every rank.

    Args:
        state: State of the network and the optimizers. Each rank writes its shards.
        rest: Other training state. The first rank writes it.
        path: The folder of the checkpoint.
        rank: Rank of this process.
        ranks: Number of processes.

    Raises:
        RunError: At least one rank cannot write a file. All ranks raise the same error.
    """
    with fail_together(ranks), explain_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    writer = FileSystemWriter(path)
    writer.fs = files = ChecksumFileSystem()
    with fail_together(ranks), explain_write_errors(path):
        save(state, storage_writer=writer)
    with fail_together(ranks), explain_write_errors(path):
        if rank == 0:
            with files.create_stream(path / TRAINING_STATE, "wb") as stream:
                save_object(rest, stream)
        write_atomically(path / f"checksums-{rank}.json", json.dumps(files.checksums))


def load_shards(state: dict[str, Any], path: Path) -> None:
    """Load tensors and plain values from a sharded checkpoint in place. This must be called on every rank.

    Raises:
        CheckpointException: The checkpoint does not contain this state.
    """
    load(state, storage_reader=FileSystemReader(path), planner=PlainValuePlanner())


def load_rest(path: Path) -> dict[str, Any]:
    """Return the training state of a sharded checkpoint other than weights and optimizers.

    Raises:
        RunError: The file cannot be read.
    """
    try:
        require_regular_file(path / TRAINING_STATE)
        rest: dict[str, Any] = torch.load(path / TRAINING_STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # loading a damaged file can raise any exception
        raise damaged_file(path / TRAINING_STATE) from error
    return rest


def require_undamaged(path: Path, rank: int = 0, ranks: int = 1) -> None:
    """Check the files of a sharded checkpoint before anything is loaded from it.

    Args:
        path: The folder of the checkpoint. Checkpoints that earlier versions wrote have no checksums and are accepted.
        rank: Rank of this process, which checks every ``ranks``-th file.
        ranks: Number of processes that divide the files among themselves.

    Raises:
        RunError: A file is missing or damaged, or the index contains code.
    """
    expected: dict[str, str] = {}
    for file in sorted(path.glob("checksums-*.json")):
        try:
            require_regular_file(file)
            expected |= json.loads(file.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise damaged_file(file) from error
    for name in sorted(expected)[rank::ranks]:
        try:
            if file_checksum(path / name) != expected[name]:
                raise damaged_file(path / name)
        except OSError as error:
            raise damaged_file(path / name) from error
    # Without a valid index, torch would look for an index of each rank and unpickle it.
    try:
        require_regular_file(path / INDEX)
        index = IndexUnpickler(io.BytesIO((path / INDEX).read_bytes())).load()
    except Exception as error:  # unpickling a damaged file can raise any exception
        raise damaged_file(path / INDEX) from error
    if not isinstance(index, metadata.Metadata):
        raise damaged_file(path / INDEX)


def damaged_file(path: Path) -> RunError:
    """Return the error for a damaged file of a sharded checkpoint."""
    return RunError(f"{path} is missing or damaged; copy the checkpoint again or start a new run")


def file_checksum(path: Path) -> str:
    """Return the CRC-32 of a file."""
    total = 0
    require_regular_file(path)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            total = zlib.crc32(chunk, total)
    return f"{total:08x}"


class IndexUnpickler(pickle.Unpickler):
    """Unpickler that accepts only the names that an index of shards needs."""

    @override
    def find_class(self, module_name: str, global_name: str) -> Any:
        is_dtype = module_name == "torch" and isinstance(getattr(torch, global_name, None), torch.dtype)
        if is_dtype or (module_name, global_name) in INDEX_NAMES:
            return super().find_class(module_name, global_name)
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not part of an index of shards")

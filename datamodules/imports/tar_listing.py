"""Lists the tars to index in a folder or at a remote address."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.imports.entries import ReadOptions
from datamodules.imports.layouts import find_layout
from datamodules.imports.splits import describe_splits, splits_of_files
from datamodules.imports.tar_scan import TarToIndex
from datamodules.imports.tars import Tars, plan_tars, tar_units
from datamodules.remote.address import local_folder, protocol_of
from datamodules.remote.cache import node_cache
from datamodules.remote.shards import RemoteShards
from datamodules.remote.storage import Storage
from datamodules.remote.tars import require_room_for_largest
from datamodules.shards.index import INDEX_FILE
from datamodules.shards.reader import tar_sample_id
from datamodules.shards.schema import INFO_FILE
from datamodules.shards.sources import path_text
from pocketdit.errors import ConfigError, UserError


@dataclass(frozen=True)
class TarListing:
    """The tars to index.

    Attributes:
        name: Short name of the data set.
        source: Human-readable location of the tars.
        folder: The folder of the tars if it is on this machine, otherwise the folder of the index.
        address: Absolute path or remote address of the tars' folder. None if the index is written to this folder.
        tars: The tars in order.
        description: Description of the layout and the number of tars.
        splits: Description of how the source divides its samples between training and validation, or None if it does
            not.
        notes: Function that returns additional lines for the report.
    """

    name: str
    source: str
    folder: Path
    address: str | None
    tars: tuple[TarToIndex, ...]
    description: str
    splits: str | None
    notes: Callable[[], list[str]]

    def sample_id(self, tar: TarToIndex, key: str) -> str:
        """Return the ID of a sample."""
        return tar_sample_id(tar.name, key)


def list_tars(source: str, out: Path | None, options: ReadOptions) -> TarListing:
    """List the tars of a source.

    Args:
        source: Path of a folder or a tar, or the address of a folder in remote storage.
        out: Folder of the index. None means the folder of the tars.
        options: How the samples will be read.

    Raises:
        UserError: The folder does not exist or contains no tars.
        ConfigError: The address is invalid or cannot be listed, a package for it is missing, or ``out`` does not suit
            the source.
        RunError: The storage cannot be reached.
    """
    if protocol_of(source) is not None:
        return _list_remote(source, out)
    path = local_folder(source)
    if path.is_file() and path.suffix.lower() != ".tar":
        raise UserError(f"{path}: is not a .tar file; pass a .tar file, or a folder that contains tars")
    folder = path if not path.is_file() else path.parent
    if out is not None and out.resolve() == folder.resolve():
        raise ConfigError(f"{out}: is the folder of the tars; pass --in-place instead to write the index into it")
    layout = find_layout(path, "tars", exclude=out).layout
    assert isinstance(layout, Tars)
    others = tuple(other for other in layout.others if other.name not in (INFO_FILE, INDEX_FILE))
    layout = replace(layout, others=others)
    plan = plan_tars(layout, options)
    tars = []
    for unit in tar_units(layout, options):
        status = unit.path.stat()
        name = unit.path.relative_to(folder).as_posix()
        tars.append(
            TarToIndex(name, status.st_size, str(status.st_mtime_ns), unit.split, path=unit.path, table=unit.table)
        )
    return TarListing(
        name=path_text(Path(folder.resolve().name)),
        source=path_text(path.resolve()),
        folder=folder,
        address=None if out is None else str(folder.resolve()),
        tars=tuple(tars),
        description=plan.description,
        splits=plan.splits,
        notes=plan.notes,
    )


def _list_remote(source: str, out: Path | None) -> TarListing:
    if out is None:
        raise ConfigError(f"{source}: --in-place requires a local folder; pass a folder for the index instead")
    storage = Storage(source)
    if not storage.can_list:
        raise ConfigError(
            f"{source}: web servers cannot list files; index a copy of the tars with --in-place, and upload the index "
            "next to the tars"
        )
    files = storage.list_files(".tar")
    if not files:
        raise UserError(f"{source}: contains no .tar file")
    cache = node_cache()
    require_room_for_largest(cache, files, storage.address)
    paths = {Path(file.name): number for number, file in enumerate(files)}
    splits = splits_of_files(list(paths), Path())
    used = [path for path in paths if not splits or splits[path] is not None]
    remote = RemoteShards(storage, cache, [files[paths[path]] for path in used])
    tars = tuple(
        TarToIndex(file.name, file.size, file.tag, splits.get(path), remote=remote, number=number)
        for number, (path, file) in enumerate(zip(used, remote.files, strict=True))
    )
    left_out = len(files) - len(used)
    count = "1 tar" if len(files) == 1 else f"{len(files)} tars"
    return TarListing(
        name=storage.address.rpartition("/")[2],
        source=storage.address,
        folder=out,
        address=storage.address,
        tars=tars,
        description=f"tars (in remote storage, {count})",
        splits=describe_splits(splits, Path()) if splits else None,
        notes=lambda: [f"tars of other splits, which are not read: {left_out}"] if left_out else [],
    )

"""Opens the data set at the path in a configuration: a local folder, or an address in remote storage."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from datamodules.remote.address import local_folder, protocol_of
from datamodules.remote.cache import node_cache
from datamodules.remote.dataset import RemoteDataset
from datamodules.remote.storage import Storage
from datamodules.remote.tars import open_remote_tars
from datamodules.shards.index import SplitIndex, load_index
from datamodules.shards.schema import INFO_FILE, DatasetInfo, is_complete, read_info
from datamodules.shards.tar_index import IN_PLACE, parse_tar_source, read_tar_index, require_unchanged
from pocketdit.config.shell import command_line, operand
from pocketdit.data_contract import DataDescription
from pocketdit.errors import ConfigError


class OpenDataset(Protocol):
    """A data set that has been located, but not read yet."""

    def read_info(self) -> DatasetInfo:
        """Read dataset.json."""
        ...

    def load_index(self, split: str, info: DatasetInfo) -> SplitIndex:
        """Load the index of a split, given the contents of dataset.json."""
        ...


class LocalDataset:
    """A data set in a folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read_info(self) -> DatasetInfo:
        """Read dataset.json."""
        return read_info(self._folder)

    def load_index(self, split: str, info: DatasetInfo) -> SplitIndex:
        """Load the index of a split, given the contents of dataset.json.

        Raises:
            UserError: The index of tars is missing or damaged.
            ConfigError: The address of the tars is invalid, or a package for it is missing.
            RunError: An indexed tar is missing or has changed.
        """
        if info.tars is None:
            return load_index(self._folder, split, info.kind)
        tars = parse_tar_source(str(self._folder), info.tars)
        index, records = read_tar_index(self._folder / split, tars.rules)
        if protocol_of(tars.address) is not None:
            storage = Storage(tars.address)
            return replace(index, remote=open_remote_tars(storage, node_cache(), records, has_versions=True))
        root = self._folder if tars.address == IN_PLACE else local_folder(tars.address)
        require_unchanged(root, index, records)
        return replace(index, root=root)


def open_dataset(path: str | Path) -> OpenDataset:
    """Open a local or remote data set.

    Raises:
        ConfigError: An address is invalid, or a package for it is missing.
    """
    text = str(path)
    return LocalDataset(local_folder(text)) if protocol_of(text) is None else RemoteDataset(text)


def describe_info(info: DatasetInfo) -> DataDescription:
    """Return the properties in dataset.json that a run checks and records."""
    return DataDescription(
        stored_autoencoder=info.autoencoder,
        stored_text_encoders=info.text_encoders,
        stored_teacher_text_encoders=info.teacher_text_encoders,
        has_images=info.kind == "image",
        attribution=None if info.attribution is None else " ".join(str(info.attribution).split()),
    )


def require_dataset(path: str) -> None:
    """Check that a path leads to a complete data set.

    Raises:
        ConfigError: The path does not lead to a data set. The message contains the command that builds the data set.
    """
    if protocol_of(path) is not None:
        RemoteDataset(path).read_info()
        return
    if is_complete(local_folder(path)):
        return
    source = "scenes" if Path(path).name == "scenes" else "IMAGE_FOLDER"
    raise ConfigError(
        f"data.init_args.path: {path} does not contain a data set (no {INFO_FILE}); "
        f"create it with: {command_line('data', 'build', source, operand(path))}"
    )

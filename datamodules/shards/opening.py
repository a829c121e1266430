"""Opens a data set by the path in a configuration: a local folder, or an address in remote storage."""

from pathlib import Path
from typing import Protocol

from datamodules.remote.address import local_folder, protocol_of
from datamodules.remote.dataset import RemoteDataset
from datamodules.shards.index import SplitIndex, load_index
from datamodules.shards.schema import INFO_FILE, DatasetInfo, Kind, is_complete, read_info
from pocketdit.config.shell import command_line, operand
from pocketdit.errors import ConfigError


class OpenDataset(Protocol):
    """A data set that has been located, but not read yet."""

    def read_info(self) -> DatasetInfo:
        """Read dataset.json."""
        ...

    def load_index(self, split: str, kind: Kind) -> SplitIndex:
        """Load the index of a split."""
        ...


class LocalDataset:
    """A data set in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read_info(self) -> DatasetInfo:
        """Read dataset.json."""
        return read_info(self._folder)

    def load_index(self, split: str, kind: Kind) -> SplitIndex:
        """Load the index of a split."""
        return load_index(self._folder, split, kind)


def open_dataset(path: str) -> OpenDataset:
    """Open a local or remote data set.

    Raises:
        ConfigError: An address is invalid, or a package for it is missing.
    """
    return LocalDataset(local_folder(path)) if protocol_of(path) is None else RemoteDataset(path)


def require_dataset(path: str) -> None:
    """Check that a path leads to a complete data set.

    Raises:
        ConfigError: It does not. The message names the command that builds one.
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

"""Records of finished tasks: their inputs, their output and its digest, and how long they took."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketdit.errors import RunError
from pocketdit.files import sha256_of, write_atomically


@dataclass(frozen=True)
class Output:
    """The files that later tasks read, and that show whether a task has finished.

    Attributes:
        folder: The run, data set, results or bundle.
        files: The files, relative to ``folder``.
        digest: SHA-256 of their contents.
        state: Sizes and modification times of the files, in the same order. If they are unchanged, so is the digest.
    """

    folder: str
    files: tuple[str, ...]
    digest: str
    state: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Record:
    """What a finished task read and wrote.

    Attributes:
        inputs: Everything on which the task depended, by name.
        output: What it wrote.
        seconds: How long it ran, without the time of attempts that were killed.
        finished: Time at which it finished, in ISO format.
    """

    inputs: Mapping[str, str]
    output: Output
    seconds: float
    finished: str


def read_output(folder: Path, files: Sequence[Path]) -> Output:
    """Compute the digest of output files.

    Raises:
        OSError: A file cannot be read.
    """
    state = tuple((stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in files))
    digest = hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()
    return Output(str(folder), tuple(str(file.relative_to(folder)) for file in files), digest, state)


def current_digest(output: Output) -> str | None:
    """Return the digest of output files as they are now, or None if one of them does not exist."""
    files = [Path(output.folder, name) for name in output.files]
    if not all(file.is_file() for file in files):
        return None
    if tuple((stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in files)) == output.state:
        return output.digest
    return read_output(Path(output.folder), files).digest


def save_record(path: Path, record: Record) -> None:
    """Write a record."""
    write_atomically(path, json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n")


def load_record(path: Path) -> Record | None:
    """Return a record, or None if the task has not finished yet.

    Raises:
        RunError: The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes())
        output = values["output"]
        state = tuple((int(size), int(time)) for size, time in output["state"])
        return Record(
            {str(key): str(value) for key, value in values["inputs"].items()},
            Output(str(output["folder"]), tuple(map(str, output["files"])), str(output["digest"]), state),
            float(values["seconds"]),
            str(values["finished"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RunError(f"{path} is damaged; delete it to run the task again") from None

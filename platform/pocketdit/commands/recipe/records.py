"""Records of finished tasks, which contain their inputs, their output with its digest, and their duration."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketdit.errors import RunError
from pocketdit.files import sha256_of, write_atomically


@dataclass(frozen=True)
class Output:
    """The files that a finished task has written, and that later tasks read.

    Attributes:
        folder: Folder of the run, the data set, the results or the bundle.
        files: Paths of the files, relative to ``folder``.
        digest: SHA-256 digest that identifies the contents of all files.
        state: Size and modification time of each file, in the same order. If they are unchanged, the digest is not
            computed again.
    """

    folder: str
    files: tuple[str, ...]
    digest: str
    state: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Record:
    """The inputs and the output of a finished task.

    Attributes:
        inputs: Everything that the task depended on: the name of each input, and its value or digest.
        output: The task's output.
        seconds: Duration of the attempt that finished, in seconds. Earlier attempts that were killed do not count.
        finished: Time at which the task finished, in ISO format.
    """

    inputs: Mapping[str, str]
    output: Output
    seconds: float
    finished: str


def read_output(folder: Path, files: Sequence[Path]) -> Output:
    """Describe output files by their digest, sizes and modification times.

    Raises:
        OSError: A file cannot be read.
    """
    state = tuple((stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in files))
    digest = hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()
    return Output(str(folder), tuple(str(file.relative_to(folder)) for file in files), digest, state)


def current_digest(output: Output) -> str | None:
    """Return the current digest of output files, or None if one of the files does not exist."""
    files = [Path(output.folder, name) for name in output.files]
    if not all(file.is_file() for file in files):
        return None
    if tuple((stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in files)) == output.state:
        return output.digest
    return read_output(Path(output.folder), files).digest


def save_record(path: Path, record: Record) -> None:
    """Write a task's record to a JSON file."""
    write_atomically(path, json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n")


def load_record(path: Path) -> Record | None:
    """Read a task's record. Return None if the task has not finished yet.

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

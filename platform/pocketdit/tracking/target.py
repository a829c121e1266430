"""Destination and progress of the journal's copy in MLflow, stored as ``tracking.json`` in the run folder."""

import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_type_hints

from pocketdit.config.secrets import mask
from pocketdit.errors import ConfigError, RunError
from pocketdit.files import require_regular_file, write_atomically

FILE_NAME = "tracking.json"

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http", "https")


@dataclass(frozen=True)
class Target:
    """The MLflow run that receives a copy of the journal, and the progress of the copy.

    Attributes:
        uri: Absolute tracking URI, with its password masked.
        project: Name of the MLflow experiment.
        run_name: Name that MLflow shows for the run.
        identity: Value of a tag by which the run is found if MLflow created it but the response was lost.
        run_id: ID of the run in MLflow, or None until it is known.
        offset: Number of bytes of the journal that have been sent.
        refused: Number of events that MLflow rejected.
    """

    uri: str
    project: str
    run_name: str
    identity: str
    run_id: str | None = None
    offset: int = 0
    refused: int = 0

    def reset(self) -> "Target":
        """Return the target in its initial state, in which nothing has been sent."""
        return replace(self, run_id=None, offset=0, refused=0)


_TYPES = get_type_hints(Target)


def absolute_uri(uri: str) -> str:
    """Return ``uri`` with a relative SQLite path made absolute.

    Raises:
        ConfigError: ``uri`` refers to neither a database nor a server.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.partition("+")[0] not in (*_DATABASES, *_SERVERS) or not rest.strip("/"):
        raise ConfigError(
            f'tracking.uri "{mask(uri)}" is neither a database nor a server; use sqlite:///runs/mlflow.db or http://HOST:PORT'
        )
    path = sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path}"


def is_server(uri: str) -> bool:
    """Return whether ``uri`` is the address of a server rather than of a database."""
    return uri.partition("://")[0] in _SERVERS


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of an SQLite database, or None for any other URI."""
    _, separator, path = uri.partition("sqlite:///")
    return Path(path).absolute() if separator and uri.startswith("sqlite:") else None


def artifact_root(uri: str) -> str | None:
    """Return the URI of the folder in which MLflow stores the files of runs, or None if the server selects it.

    For an SQLite database, this is the folder ``mlartifacts`` next to the database file.
    """
    path = sqlite_path(uri)
    return None if path is None else (path.parent / "mlartifacts").as_uri()


def open_target(run_folder: Path, uri: str, project: str, run_name: str) -> Target:
    """Return the stored target of a run. If it is missing or has a different URI or project, create a new target."""
    new = Target(mask(absolute_uri(uri)), project, run_name, identity=uuid.uuid4().hex)
    stored = load(run_folder)
    if stored is not None and (stored.uri, stored.project) == (new.uri, new.project):
        return stored
    save(run_folder, new)
    return new


def load(run_folder: Path) -> Target | None:
    """Return the target of a run, or None if the run was never tracked.

    Raises:
        RunError: The file is damaged or cannot be read.
    """
    path = run_folder / FILE_NAME
    try:
        require_regular_file(path)
        target = Target(**json.loads(path.read_text()))
        if not all(isinstance(value, _TYPES[name]) for name, value in vars(target).items()) or target.offset < 0:
            raise ValueError("a value is of the wrong type")
        return target
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{path}: cannot be read ({reason}); delete it to send the run again from the start") from error


def save(run_folder: Path, target: Target) -> None:
    """Write the target to the run folder atomically."""
    write_atomically(run_folder / FILE_NAME, json.dumps(asdict(target), indent=2) + "\n")

"""Where a run's journal is copied to and how far that copy has come: ``tracking.json`` in the run folder."""

import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pocketdit.errors import ConfigError, RunError
from pocketdit.files import write_atomically

FILE_NAME = "tracking.json"

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http", "https")


@dataclass(frozen=True)
class Target:
    """``project``: MLflow's experiment. ``identity``: a tag by which the run is found again when MLflow made
    it but its answer was lost. ``run_id``: MLflow's, once known. ``offset``: bytes of the journal that MLflow
    has. ``refused``: events that it would not take."""

    uri: str
    project: str
    run_name: str
    identity: str
    run_id: str | None = None
    offset: int = 0
    refused: int = 0

    def from_the_start(self) -> "Target":
        """The same run, not sent yet."""
        return replace(self, run_id=None, offset=0, refused=0)


def absolute_uri(uri: str) -> str:
    """``uri`` with a relative sqlite path made absolute. ``ConfigError`` unless it is a database or a
    server."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.partition("+")[0] not in (*_DATABASES, *_SERVERS) or not rest.strip("/"):
        raise ConfigError(
            f'tracking.uri "{uri}" is neither a database nor a server: '
            "write sqlite:///runs/mlflow.db or http://HOST:PORT"
        )
    path = sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path}"


def is_server(uri: str) -> bool:
    return uri.partition("://")[0] in _SERVERS


def sqlite_path(uri: str) -> Path | None:
    """The absolute path of a sqlite database; None for any other URI."""
    _, separator, path = uri.partition("sqlite:///")
    return Path(path).absolute() if separator and uri.startswith("sqlite:") else None


def artifact_root(uri: str) -> str | None:
    """Where the pictures and files of a local database go: ``mlartifacts`` beside it. None: the server
    decides."""
    path = sqlite_path(uri)
    return None if path is None else (path.parent / "mlartifacts").as_uri()


def open_target(run_folder: Path, uri: str, project: str, run_name: str) -> Target:
    """The stored target of the run, or a new one where there is none or it went to another place."""
    wanted = Target(absolute_uri(uri), project, run_name, identity=uuid.uuid4().hex)
    stored = load(run_folder)
    if stored is not None and (stored.uri, stored.project) == (wanted.uri, wanted.project):
        return stored
    save(run_folder, wanted)
    return wanted


def load(run_folder: Path) -> Target | None:
    """None where the run was never tracked. ``RunError`` where the file is damaged."""
    path = run_folder / FILE_NAME
    try:
        return Target(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it and the run is sent anew") from error


def save(run_folder: Path, target: Target) -> None:
    write_atomically(run_folder / FILE_NAME, json.dumps(asdict(target), indent=2) + "\n")

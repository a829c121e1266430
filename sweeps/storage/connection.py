"""Connects to a study's database and reports database errors in one line."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.exc

from pocketdit.errors import ConfigError, RunError
from sweeps.settings import Sweep
from sweeps.storage.optuna_internals import lock_transactions_early


def open_storage(sweep: Sweep) -> optuna.storages.RDBStorage:
    """Open the study's storage and enable heartbeats. A SQLite file is created if it does not exist.

    Raises:
        ConfigError: The URL is invalid, or its driver is not installed.
        RunError: The database does not respond.
    """
    require_driver(sweep)
    url = sweep.url
    sqlite = url.startswith("sqlite:///")
    if sqlite:
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = {"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True}
    try:
        storage = optuna.storages.RDBStorage(
            url,
            engine_kwargs=arguments,
            heartbeat_interval=sweep.heartbeat.every,
            grace_period=sweep.heartbeat.grace,
        )
    except RuntimeError as error:  # raised for tables of another version
        raise RunError(_schema_problem(sweep, error)) from error
    except Exception as error:  # every driver has its own exceptions
        if not _is_database_error(error):
            raise
        raise RunError(f"storage: {masked_url(sweep)} does not respond: {str(error).splitlines()[0]}") from error
    if sqlite:
        lock_transactions_early(storage)
    return storage


def require_driver(sweep: Sweep) -> None:
    """Check the URL of the storage and that its driver is installed, without connecting to the database.

    Raises:
        ConfigError: The URL is invalid, or its driver is not installed.
    """
    try:
        sqlalchemy.create_engine(sweep.url).dispose()
    except ImportError as error:
        is_postgres = sweep.url.startswith(("postgresql://", "postgresql+psycopg2://"))
        hint = "install it with: pip install 'pocketdit[many]'" if is_postgres else str(error).splitlines()[0]
        raise ConfigError(f"storage: the driver of {masked_url(sweep)} is not installed; {hint}") from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise ConfigError(f"storage: {masked_url(sweep)}: {str(error).splitlines()[0]}") from error


def _schema_problem(sweep: Sweep, error: RuntimeError) -> str:
    url = masked_url(sweep)
    if "storage upgrade" not in str(error):
        origin = "a newer version of Optuna or by another program"
        return f"storage: the tables in {url} were created by {origin}; choose another database"
    command = shlex.join(["optuna", "storage", "upgrade", "--storage", url])
    origin = "an older version of Optuna"
    return f"storage: the tables in {url} were created by {origin}; back them up, and upgrade them with: {command}"


def masked_url(sweep: Sweep) -> str:
    """Return the storage's URL without the password."""
    try:
        return sqlalchemy.make_url(sweep.url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return sweep.url


def study_names(sweep: Sweep) -> list[str]:
    """List the names of the Optuna studies in the storage."""
    return optuna.get_all_study_names(open_storage(sweep))


@contextmanager
def storage_errors(sweep: Sweep) -> Iterator[None]:
    """Convert database errors in the block to a one-line ``RunError``."""
    try:
        yield
    except Exception as error:  # every driver has its own exceptions
        if not _is_database_error(error):
            raise
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        raise RunError(
            f"storage: {masked_url(sweep)} does not respond: {cause}; "
            f"run the same command again to resume {sweep.sweep}"
        ) from error


def _is_database_error(error: Exception) -> bool:
    return isinstance(error, sqlalchemy.exc.SQLAlchemyError | optuna.exceptions.StorageInternalError)

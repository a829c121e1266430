"""Connects to the database of a preference study, and reports its errors in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from evaluation.preference.storage.tables import metadata
from pocketdit.config.secrets import mask
from pocketdit.errors import ConfigError, RunError

_WAIT_SECONDS = 30  # maximum time to wait for the lock of an SQLite file
_POOL = 20  # number of connections; the server answers up to 40 requests at a time
_WRITES = "preference_writes"


def connect(url: str) -> Engine:
    """Return the engine of a database.

    Creates the tables and, for SQLite, the database file if they do not exist.

    Raises:
        ConfigError: The URL is invalid, or its driver is not installed.
        RunError: The database does not respond.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"storage: {mask(url)} is not a database URL") from error
    backend = parsed.get_backend_name()
    is_sqlite = backend == "sqlite" and parsed.database not in (None, "", ":memory:")
    if not is_sqlite and backend != "postgresql":
        raise ConfigError(f"storage: {mask(url)} must be sqlite:///FILE or postgresql://USER@HOST/DATABASE")
    if parsed.drivername == "postgresql":  # SQLAlchemy's default driver may not be the one that the extra installs
        parsed = parsed.set(drivername="postgresql+psycopg2")
    options: dict[str, Any] = {"connect_args": {"timeout": _WAIT_SECONDS}} if is_sqlite else {"pool_pre_ping": True}
    try:
        engine = sqlalchemy.create_engine(parsed, pool_size=_POOL, max_overflow=_POOL, **options)
    except ImportError as error:
        hint = "install it with: pip install 'pocketdit[many]'" if error.name == "psycopg2" else str(error)
        raise ConfigError(f"storage: the driver of {mask(url)} is not installed; {hint}") from error
    except SQLAlchemyError as error:
        raise ConfigError(f"storage: {mask(url)}: {str(error).splitlines()[0]}") from error
    if is_sqlite:
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        _prepare_sqlite(engine)
    with database_errors(engine):
        metadata.create_all(engine)
    return engine


def _prepare_sqlite(engine: Engine) -> None:
    """Let readers and a writer work at the same time, and write every transaction to the disk before it ends.

    A writing transaction takes the lock when it begins. Otherwise, two transactions could read before either one
    writes, and one of them would fail.
    """

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        # This turns off Python's implicit transactions; ``begin`` below starts them explicitly.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that writes. It is committed at the end of the block, unless the block raises an exception."""
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        yield connection


@contextmanager
def database_errors(engine: Engine) -> Iterator[None]:
    """Convert database errors in the block to a one-line ``RunError``."""
    try:
        yield
    except SQLAlchemyError as error:
        url = engine.url.render_as_string(hide_password=True)
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise RunError(f"storage: {url} does not respond: {cause}; run the same command again") from error

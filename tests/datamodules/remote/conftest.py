"""Fixtures that start storage servers on this machine and upload data sets to them."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from benchmarks.storage_server import ACCESS_KEY, SECRET_KEY, free_port, wait_for_port
from datamodules.remote import storage

BUCKET = "training-data"


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set up an empty cache and a timeout of three seconds for unreachable servers, and return the cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE", str(folder))
    monkeypatch.setenv("POCKETDIT_SHARD_CACHE_LIMIT", "100MB")
    monkeypatch.setattr(storage, "PATIENCE", 3.0)
    return folder


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """The port of an S3 server that runs in a separate process."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "PYTHONPATH": ""}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port, process)
            yield port
        finally:
            process.kill()


@pytest.fixture
def s3_environment(moto_port: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set environment variables with S3 credentials, and return a function that sets the port of the S3 endpoint."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def set_port(port: int) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    set_port(moto_port)
    return set_port


@pytest.fixture
def upload(s3_environment: Callable[[int], None], request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Return a function that uploads a data set to the S3 server and returns its address."""

    def put(dataset: Path) -> str:
        client = fsspec.filesystem("s3", skip_instance_cache=True)
        prefix = f"{BUCKET}/{abs(hash(request.node.nodeid)):x}-{os.getpid()}/{dataset.name}"
        if not client.exists(BUCKET):
            client.mkdir(BUCKET)
        for path in sorted(path for path in dataset.rglob("*") if path.is_file()):
            client.put_file(str(path), f"{prefix}/{path.relative_to(dataset)}")
        return f"s3://{prefix}"

    return put


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[str]:
    """The address of a web server for the files in ``tmp_path``."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)

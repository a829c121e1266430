"""Starts an S3 server on this machine."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"


def free_port() -> int:
    """Return an unused port on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", seconds: float = 60) -> None:
    """Wait until a process accepts connections.

    Raises:
        RuntimeError: The process has ended, or does not accept connections in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no server on port {port} after {seconds:.0f} seconds")


@contextmanager
def seaweedfs(folder: Path) -> Iterator[int]:
    """Run SeaweedFS for the duration of the block, and yield its S3 port.

    The server accepts ``ACCESS_KEY`` with ``SECRET_KEY``, and allows anyone to read without a signature.
    """
    everything = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    owner = {"name": "owner", "credentials": [everything], "actions": ["Admin", "Read", "Write", "List"]}
    config = folder / "identities.json"
    config.write_text(json.dumps({"identities": [owner, {"name": "anonymous", "actions": ["Read"]}]}))
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    # By default, the Iceberg and Lance catalogs use fixed ports, so a second server would not start.
    disabled = {"s3.port.iceberg": 0, "s3.port.lance": 0}
    grpc = {f"{name}.grpc": free_port() for name in ports}
    data = folder / "server"
    data.mkdir()
    command = [str(Path(sys.executable).with_name("weed")), f"-logdir={data}", "server", f"-dir={data}"]
    command += [
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.config={config}",
        "-volume.max=5",
        "-master.telemetry=false",
    ]
    command += [f"-{name}={port}" for name, port in (ports | grpc | disabled).items()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for port in ports.values():
                wait_for_port(port, process)
            yield ports["s3.port"]
        finally:
            process.kill()

"""Runs ``lightning preference serve`` as a separate process, as a user does."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT


class Server:
    """A server that can be killed and started again.

    Args:
        file: The YAML file of a study that has been created.
        port: Preferred port.
        arguments: Further arguments.
    """

    def __init__(self, file: Path, port: int, *arguments: str) -> None:
        self.command = [sys.executable, "-m", "pocketdit", "preference", "serve", str(file), *arguments]
        self.port, self.address = port, ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the server on the same port as before, and wait until it is ready."""
        command = [*self.command, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("http"):
                self.address = line.strip()
                self.port = int(self.address.rpartition(":")[2])
                return
        raise AssertionError("the server did not start")

    def stop(self, number: int = signal.SIGKILL) -> str:
        """Send a signal to the server, wait until it has exited, and return the rest of its output."""
        assert self.process is not None
        self.process.send_signal(number)
        assert self.process.stdout is not None
        output = self.process.stdout.read()  # communicate() would lose text that has already been buffered
        self.process.wait(30)
        return output


@contextmanager
def serving(file: Path, port: int, *arguments: str) -> Iterator[Server]:
    """Run a server inside the ``with`` block."""
    server = Server(file, port, *arguments)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()

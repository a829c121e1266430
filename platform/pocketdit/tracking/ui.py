"""Local server for MLflow's web interface, which opens with a comparison of the project's runs."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO

from pocketdit.config.secrets import mask
from pocketdit.errors import RunError
from pocketdit.serving.browser import show
from pocketdit.serving.loopback import HOST
from pocketdit.serving.ports import listen
from pocketdit.tracking.comparison import comparison_url, web
from pocketdit.tracking.failures import describe
from pocketdit.tracking.target import absolute_uri, artifact_root, is_server, sqlite_path

_START_SECONDS = 120.0


def serve(uri: str, port: int = 5000, open_browser: bool = True, project: str = "pocketdit") -> None:
    """Show the runs of ``project`` tracked at ``uri``.

    For a database, this starts a server on the loopback interface, which runs until Ctrl-C is pressed. If ``uri`` is
    already a server, this only opens its page.

    Args:
        uri: MLflow tracking URI.
        port: Preferred port. If it is in use, the next free port is used.
        open_browser: Whether to open a browser if a display is available.
        project: Name of the MLflow experiment.

    Raises:
        RunError: Nothing has been tracked yet, no port is free, or the server does not start or respond.
    """
    uri = absolute_uri(uri)
    if is_server(uri):
        show(comparison_url(uri, project), open_browser)
        return
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        command = "lightning run experiments/elastic_pretrain.yaml"
        raise RunError(f"{database}: no runs have been tracked yet; start one with: {command}")
    free = find_free_port(port)
    if free != port:
        print(f"Port {port} is in use; using port {free}.")
    try:
        with running_server(uri, free) as server:
            show(comparison_url(f"http://{HOST}:{free}", project), open_browser)
            print("Press Ctrl-C to stop.", flush=True)
            server.wait()
    except KeyboardInterrupt:
        print("\nStopped.")
    else:
        raise RunError("the MLflow server exited unexpectedly; start it again with: lightning ui")


def find_free_port(first: int) -> int:
    """Return the first port at or above ``first`` that is not in use on this machine. See ``listen``."""
    with listen(HOST, first) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running_server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an MLflow server for the database ``uri`` on ``port`` of the loopback interface.

    The server is ready when the context is entered. It is terminated when the context exits, even if this process
    receives SIGTERM or SIGHUP.
    """
    root = artifact_root(uri)
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    command += [] if root is None else ["--default-artifact-root", root]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # in the environment, because every user of the machine can read arguments
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # The job runner would start eight processes for language-model features.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with tempfile.TemporaryFile("w+") as log:
        # The server runs in a separate session, so Ctrl-C reaches only this process, which then stops the server.
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            with _exit_on_signals():
                _wait_until_up(server, uri, f"http://{HOST}:{port}", log)
                yield server
        finally:
            _stop(server)


def _wait_until_up(server: subprocess.Popen[bytes], uri: str, address: str, log: IO[str]) -> None:
    start = time.monotonic()
    is_terminal = sys.stdout.isatty()
    message = f"Starting MLflow on {address} (this takes 10 to 20 seconds)"
    print(message, end="" if is_terminal else "\n", flush=True)
    while server.poll() is None and time.monotonic() - start < _START_SECONDS:
        if is_terminal:
            print(f"\r{message}: {time.monotonic() - start:.0f} s", end="", flush=True)
        try:
            with web.open(f"{address}/health", timeout=2):
                break
        except OSError:
            time.sleep(0.25)
    else:
        log.seek(0)
        text = log.read()
        if (reason := describe(text, uri)) != text:
            raise RunError(f"the MLflow server did not start: {mask(reason)}")
        print("\n".join(text.splitlines()[-10:]), file=sys.stderr)
        raise RunError("the MLflow server did not start; the end of its log is above")
    if is_terminal:
        print()


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Stop the server and its child processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            return
        try:
            server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Raise ``SystemExit`` on SIGTERM and SIGHUP, so that the server is stopped along with this process.

    A signal that was already ignored, such as SIGHUP under nohup, stays ignored.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    handled = {number: handler for number, handler in previous.items() if handler != signal.SIG_IGN}
    for number in handled:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)

"""MLflow's web page on this machine, opened on the comparison of this project's runs."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO

from pocketdit.errors import ConfigError, RunError
from pocketdit.tracking.target import absolute_uri, artifact_root, is_server, sqlite_path

_HOST = "127.0.0.1"
_PORTS_TRIED = 20
_START_SECONDS = 120.0

# Loopback is asked directly, also where the environment names a proxy.
_web = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def serve(uri: str, port: int = 5000, open_browser: bool = True, project: str = "pocketdit") -> None:
    """Shows the runs of ``project`` that are tracked at ``uri``, until Ctrl-C.

    For a database it starts a server that only this machine reaches, on ``port`` or the next free one; where
    ``uri`` is a server, it only opens that one's page. ``RunError`` where nothing was tracked yet, no port is
    free, or the server does not start.
    """
    uri = absolute_uri(uri)
    if is_server(uri):
        _show(comparison_url(uri, project), open_browser)
        return
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        command = "lightning run experiments/elastic_pretrain.yaml"
        raise RunError(f"{database}: no run was tracked yet; make one with: {command}")
    free = free_port(port)
    if free != port:
        print(f"Port {port} is in use, so it is {free}.")
    try:
        with running_server(uri, free) as server:
            _show(comparison_url(f"http://{_HOST}:{free}", project), open_browser)
            print("Ctrl-C stops it.", flush=True)
            server.wait()
    except KeyboardInterrupt:
        print("\nStopped.")
    else:
        raise RunError("the MLflow server ended by itself; start it again with: lightning ui")


def free_port(first: int) -> int:
    """The first port from ``first`` on that nothing on this machine listens on; ``RunError`` after twenty."""
    if not 0 < first < 65536:
        raise ConfigError(f"--port {first}: ports are 1 to 65535")
    for port in range(first, min(first + _PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            # As the server does it: a port whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise RunError(f"no free port from {first} to {first + _PORTS_TRIED - 1}: name another one")


@contextmanager
def running_server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server over the database ``uri`` on ``port`` of loopback: answers inside, is ended after."""
    root = artifact_root(uri)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", _HOST, "--port", str(port), "--workers", "1"]
    command += [] if root is None else ["--default-artifact-root", root]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # The job runner serves language-model features; it is eight processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with tempfile.TemporaryFile("w+") as log:
        # In a session of its own, so that Ctrl-C reaches it through us and all its processes end together.
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            with _exit_on_signals():
                _wait_until_up(server, f"http://{_HOST}:{port}", log)
                yield server
        finally:
            _stop(server)


def comparison_url(address: str, project: str) -> str:
    """The page of the server at ``address`` that shows the runs of ``project`` as a table with charts over
    all of them (mlflow 3.17). The list of experiments where the server does not know the project."""
    query = urllib.parse.urlencode({"experiment_name": project})
    address = address.rstrip("/")
    try:
        with _web.open(f"{address}/api/2.0/mlflow/experiments/get-by-name?{query}", timeout=30) as answer:
            number = json.load(answer)["experiment"]["experiment_id"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return f"{address}/#/experiments"
        raise RunError(f"{address} answers with: {error}") from error
    except OSError as error:
        raise RunError(f"{address} does not answer: {error}") from error
    return f"{address}/#/experiments/{number}/runs?workflowType=machine_learning&compareRunsMode=CHART"


def _show(url: str, open_browser: bool) -> None:
    print(url, flush=True)
    # Without a screen the only browsers are text ones, and these would take the terminal.
    screen = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if open_browser and screen:
        webbrowser.open(url)


def _wait_until_up(server: subprocess.Popen[bytes], address: str, log: IO[str]) -> None:
    begin = time.monotonic()
    shows_progress = sys.stdout.isatty()
    message = f"MLflow starts on {address} (it takes 10 to 20 seconds)"
    print(message, end="" if shows_progress else "\n", flush=True)
    while server.poll() is None and time.monotonic() - begin < _START_SECONDS:
        if shows_progress:
            print(f"\r{message}: {time.monotonic() - begin:.0f} s", end="", flush=True)
        try:
            with _web.open(f"{address}/health", timeout=2):
                break
        except OSError:
            time.sleep(0.25)
    else:
        log.seek(0)
        last = "\n".join(log.read().splitlines()[-10:])
        raise RunError(f"the MLflow server did not start; it said:\n{last}")
    if shows_progress:
        print()


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Ends the server and the processes that it started."""
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
    """Lets an ended terminal or a `kill` end the server too, not only Ctrl-C."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pocketdit.errors import ConfigError, RunError
from pocketdit.tracking.comparison import comparison_url
from pocketdit.tracking.logger import RunLogger
from pocketdit.tracking.ui import _exit_on_signals, find_free_port, serve
from tests.tracking.conftest import StartProcess

SERVE = """
from pocketdit.tracking.ui import serve
serve(sys.argv[1], int(sys.argv[2]), open_browser=False, project="shown")
"""


def accepts_connections(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


def test_serve_listens_on_loopback_only_and_stops_on_ctrl_c(
    store: str, run_folder: Path, start_process: StartProcess
) -> None:
    logger = RunLogger(run_folder, store, "shown")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        requested = occupied.getsockname()[1]
        process = start_process(SERVE, store, str(requested), stdout=subprocess.PIPE)
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if "Ctrl-C" in line:
                break
    output = "\n".join(lines)
    assert f"Port {requested} is in use; using port " in output
    address = re.search(
        r"^http://127\.0\.0\.1:(\d+)(/#/experiments/\d+/runs\?.*viewStateShareKey=pocketdit)$", output, re.M
    )
    assert address is not None, output
    port = int(address[1])
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/") as page:
        assert b"<title>MLflow</title>" in page.read()
    # If the server listened on all interfaces, it would also respond at this address.
    assert not accepts_connections("127.0.0.2", port)
    assert comparison_url(f"http://127.0.0.1:{port}", "shown") in output
    assert comparison_url(f"http://127.0.0.1:{port}", "unknown").endswith("/#/experiments")

    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert not accepts_connections("127.0.0.1", port)


def test_ignored_hangup_stays_ignored() -> None:
    """Under nohup, closing the terminal must not stop the server."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _exit_on_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            with pytest.raises(SystemExit):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_missing_database_error_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"mlflow\.db: no runs have been tracked yet; start one with: lightning run"):
        serve(f"sqlite:///{tmp_path / 'mlflow.db'}", open_browser=False)


def test_unreachable_server_is_a_clear_error() -> None:
    with pytest.raises(RunError, match=r"http://127\.0\.0\.1:9 does not respond: .*refused"):
        serve("http://127.0.0.1:9", open_browser=False)


def test_find_free_port_skips_occupied_ports_and_rejects_invalid_ones() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        assert find_free_port(port) > port
    with pytest.raises(ConfigError, match="from 1 to 65535"):
        find_free_port(65536)

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pocketdit.errors import ConfigError, RunError
from pocketdit.tracking.logger import RunLogger
from pocketdit.tracking.ui import comparison_url, free_port, serve


def answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


def test_the_page_is_served_on_loopback_only_and_ctrl_c_ends_it(store: str, run_folder: Path) -> None:
    logger = RunLogger(run_folder, store, "shown")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        code = "import sys; from pocketdit.tracking.ui import serve\n" + (
            "serve(sys.argv[1], int(sys.argv[2]), open_browser=False, project='shown')"
        )
        page = subprocess.Popen([sys.executable, "-c", code, store, str(wanted)], stdout=subprocess.PIPE, text=True)
        assert page.stdout is not None
        said: list[str] = []
        for line in page.stdout:
            said.append(line.rstrip())
            if "Ctrl-C" in line:
                break
    output = "\n".join(said)
    assert f"Port {wanted} is in use" in output
    address = re.search(r"^http://127\.0\.0\.1:(\d+)(/#/experiments/\d+/runs\?.*compareRunsMode=CHART)$", output, re.M)
    assert address is not None, output
    port = int(address[1])
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/") as page_:
            assert b"<title>MLflow</title>" in page_.read()
        # A server on all interfaces answers on every address of the machine, this one too.
        assert not answers("127.0.0.2", port)
        assert comparison_url(f"http://127.0.0.1:{port}", "shown") in output
        assert comparison_url(f"http://127.0.0.1:{port}", "unknown").endswith("/#/experiments")
    finally:
        page.send_signal(signal.SIGINT)
        page.wait(20)
    assert page.returncode == 0
    assert not answers("127.0.0.1", port)


def test_no_database_yet_is_an_error_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"mlflow\.db: no run was tracked yet; make one with: lightning run"):
        serve(f"sqlite:///{tmp_path / 'mlflow.db'}", open_browser=False)


def test_a_server_that_does_not_answer_is_a_clear_error() -> None:
    with pytest.raises(RunError, match=r"http://127\.0\.0\.1:9 does not answer: .*refused"):
        serve("http://127.0.0.1:9", open_browser=False)


def test_a_port_is_passed_over_when_it_is_in_use_and_one_beyond_the_ports_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) > port
    with pytest.raises(ConfigError, match="1 to 65535"):
        free_port(65536)

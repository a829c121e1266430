"""Tests ``lightning demo`` in a separate process: messages, tokens, and Ctrl-C."""

import http.client
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pocketdit.commands.main import main
from tests.commands.demo.conftest import decoder_run
from tests.conftest import ROOT


@contextmanager
def demo(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command, and return the process and the output that it printed before it was ready."""
    command = [sys.executable, "-m", "pocketdit", "demo", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        yield process, "".join(lines)
    finally:
        process.kill()
        process.wait()


def ask(port: int, path: str, body: str | None = None, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET" if body is None else "POST", path, body, headers)
    return connection.getresponse()


def test_the_token_is_required_on_other_interfaces_and_ctrl_c_ends_a_long_request(runs: Path, tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as occupied:
        requested = occupied.getsockname()[1]
        words = [f"runs={runs}", f"out={tmp_path / 'out'}", f"port={requested}", "address=0.0.0.0", "browser=false"]
        with demo("run=elastic_pretrain/t", *words) as (process, output):
            assert f"Port {requested} is in use; using port {requested + 1}." in output
            link = re.search(r"^http://[^/]+:(\d+)(/\?access=\S+)$", output, re.M)
            assert link is not None, output
            port = int(link[1])
            for path, body in (("/", None), ("/gallery", None), ("/page.js", None), ("/sample", "prompt=a")):
                assert ask(port, path, body).status == 401
            entered = ask(port, link[2])
            cookie = entered.headers["Set-Cookie"].partition(";")[0]
            assert (entered.status, entered.headers["Location"]) == (303, "/")
            assert ask(port, "/", Cookie=cookie).status == 200
            assert ask(port, "/", Cookie=cookie, Host="attacker.example").status == 403
            long = urlencode({"prompt": "a", "steps": 10_000})
            response = ask(port, "/sample", long, Cookie=cookie)
            while b'"step"' not in response.readline():
                pass
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert time.monotonic() - start < 20  # without the interruption, the request would take minutes
            assert process.stdout is not None
            assert process.stdout.read().strip() == "Stopped."
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "missing required key 'run'"),
        (["run=none"], 1, "no run named none in"),
        (["rum=x"], 2, "rum"),
        (["run=elastic_pretrain/t", "port=0"], 2, "port=0: must be from 1 to 65535"),
        (["run=elastic_pretrain/t", "address=203.0.113.1"], 1, "203.0.113.1: cannot listen on this address"),
        (["run=tiny_decoder/d"], 2, "tiny_decoder/d trained a decoder; use a run that trained a backbone"),
        (["run=elastic_pretrain/t", "decoder=elastic_pretrain/u"], 2, "use a run that trained a decoder"),
        (["run=elastic_pretrain/t", "decoder=tiny_decoder/other"], 2, "use the same autoencoder"),
        (["run=elastic_pretrain/t", "against=elastic_pretrain/t"], 2, "is the same run as"),
    ],
)
def test_wrong_settings_are_one_line_errors(
    words: list[str], status: int, message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (runs / "tiny_decoder" / "other").exists():
        decoder_run(runs, "other", "autoencoder.init_args.scale=3.0")
    assert main(["demo", *words, f"runs={runs}"]) == status
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_run_without_its_key_is_refused_with_the_form_of_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "elastic_pretrain"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert "unrecognized arguments: elastic_pretrain (settings have the form key=value, for example run=RUN)" in error

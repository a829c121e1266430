"""Tests for the server on other network interfaces, and for the command's error messages."""

import csv
import http.client
import signal
from pathlib import Path

import pytest

from pocketdit.commands.main import main
from tests.evaluation.preference.conftest import Created
from tests.evaluation.preference.server import serving


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (["--host", "0.0.0.0"], 1, "raters: only invited raters can reach 0.0.0.0; invite some with: lightning"),
        (["--url", "https://x.org"], 1, "raters: only invited raters can reach https://x.org; invite some with"),
        (["--url", "x.org"], 2, "--url x.org: must be http:// or https:// and a host without a path"),
        (["--url", "https://x.org/study"], 2, "--url https://x.org/study: must be http:// or https:// and a host"),
        (["--port", "0"], 2, "--port 0: must be from 1 to 65535"),
        (["--host", "203.0.113.1"], 1, "203.0.113.1"),
    ],
)  # fmt: skip
def test_problem_is_one_line(
    created: Created, file: Path, arguments: list[str], status: int, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    created()
    capsys.readouterr()
    assert main(["preference", "serve", str(file), *arguments]) == status
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_other_interfaces_need_the_link_of_a_rater(created: Created, file: Path) -> None:
    loaded, _ = created("raters=2")
    with serving(file, 8730, "--host", "0.0.0.0") as server:

        def ask(path: str, **headers: str) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", path, headers=headers)
            return connection.getresponse()

        def location(response: http.client.HTTPResponse) -> str:
            return response.headers["Location"] or ""

        assert ask("/next").status == 401
        assert ask("/", Host="attacker.example").status == 403
        output = server.stop(signal.SIGINT)
        path = loaded.config.folder / "raters.csv"
        assert f"Send each rater a different link from {path}." in output
        with path.open(newline="") as rows:
            links = [row["link"] for row in csv.DictReader(rows)]
        assert len(set(links)) == 2
        assert all(link.startswith(f"{server.address}/join/") for link in links)
        assert path.stat().st_mode & 0o777 == 0o600
        server.start()
        joined = ask(links[1].removeprefix(server.address))
        assert location(joined) == "/"
        cookie = (joined.headers["Set-Cookie"] or "").partition(";")[0]
        assert location(ask("/next", Cookie=cookie)).startswith("/compare/")

"""Tests that local servers only accept requests that are addressed to this machine and not sent by other websites."""

from typing import Any

import pytest

from pocketdit.serving.loopback import is_local_request, only_local

LOCAL = [
    ("127.0.0.1:5000", None),
    ("localhost", None),
    ("LOCALHOST:80", None),
    ("[::1]:5000", None),
    ("localhost:5000", "http://localhost:5000"),
    ("[::1]:5000", "http://[::1]:5000"),
]
FOREIGN = [
    (None, None),
    ("", None),
    ("attacker.example", None),
    ("attacker.example:5000", "http://attacker.example:5000"),
    ("127.0.0.1.attacker.example", None),
    ("localhost.attacker.example:5000", None),
    ("attacker.example#localhost", None),
    ("attacker.example/localhost", None),
    ("attacker.example?localhost", None),
    ("0.0.0.0:5000", None),
    ("[::1", None),
    ("localhost:5000", "http://attacker.example:5000"),
    ("localhost:5000", "http://localhost:5001"),
    ("localhost:5000", "http://localhost"),
    ("localhost:5000", "http://127.0.0.1:5000"),
    ("localhost:5000", "http://localhost.attacker.example:5000"),
    ("localhost:5000", "null"),
    ("localhost:5000", ""),
    ("localhost:5000", "http://localhost:port"),
]


@pytest.mark.parametrize(("host", "origin"), LOCAL)
def test_requests_from_this_machine_are_local(host: str, origin: str | None) -> None:
    assert is_local_request(host, origin)
    assert answer(host, origin) == ("200 OK", b"studies")


@pytest.mark.parametrize(("host", "origin"), FOREIGN)
def test_requests_from_foreign_pages_are_refused(host: str | None, origin: str | None) -> None:
    assert not is_local_request(host, origin)
    status, body = answer(host, origin)
    assert status == "403 Forbidden"
    assert b"studies" not in body


def answer(host: str | None, origin: str | None) -> tuple[str, bytes]:
    """Send a request to a guarded application, and return the status and body of its response."""
    statuses: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        statuses.append(status)

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b"studies"]

    headers = {"HTTP_HOST": host, "HTTP_ORIGIN": origin}
    environ = {name: value for name, value in headers.items() if value is not None}
    body = b"".join(only_local(app)(environ, start_response))
    return statuses[0], body

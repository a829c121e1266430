"""Tests for a guarded server with real connections: foreign and oversized requests, tokens, and stopping."""

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from pocketdit.errors import ConfigError, RunError
from pocketdit.serving import guard
from pocketdit.serving.guard import Guard, allowed_on
from pocketdit.serving.ports import listen
from pocketdit.serving.server import running
from pocketdit.serving.token import PARAMETER, TokenGate, new_token

LIMIT = 1000
TOKEN = new_token()


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"body": (await request.body()).decode(), "query": request.url.query})


async def endless(request: Request) -> StreamingResponse:
    async def parts() -> Iterator[bytes]:  # type: ignore[misc]  # an asynchronous generator
        import asyncio

        while True:
            yield b"."
            await asyncio.sleep(0.05)

    return StreamingResponse(parts())


APP = Starlette(routes=[Route("/", echo, methods=["GET", "POST"]), Route("/endless", endless)])


def serve(app: ASGIApp) -> Iterator[int]:
    listener = listen("127.0.0.1", 5900)
    with running(app, listener):
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    yield from serve(Guard(APP, allowed_on("127.0.0.1"), LIMIT))


@pytest.fixture(scope="module")
def gated_port() -> Iterator[int]:
    listener = listen("127.0.0.1", 5900)
    port = listener.getsockname()[1]
    with running(Guard(TokenGate(APP, TOKEN, port), allowed_on("0.0.0.0"), LIMIT), listener):
        yield port


def ask(port: int, path: str = "/", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def send(port: int, text: bytes) -> bytes:
    """Send raw bytes, and return everything that the server sends before it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_local_requests_get_headers_that_forbid_everything_from_elsewhere(port: int) -> None:
    response = ask(port)
    assert response.status == 200
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy.pop("default-src") == "'none'"
    assert set(policy.values()) == {"'self'", "'none'"}
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "server" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "localhost.attacker.example"},
        {"Host": "192.168.0.7"},
        {"Origin": "http://attacker.example"},
        {"Origin": "null"},
    ],
)
def test_foreign_requests_are_refused(port: int, headers: dict[str, str]) -> None:
    response = ask(port, **headers)
    assert response.status == 403
    assert "Content-Security-Policy" in response.headers
    assert b"query" not in response.read()


def test_repeated_hosts_and_origins_are_refused(port: int) -> None:
    twice = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n\r\n"
    assert send(port, twice % b"Host: attacker.example").startswith(b"HTTP/1.1 400")
    origins = b"Origin: http://localhost\r\nOrigin: http://attacker.example"
    assert send(port, twice % origins).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_up_to_the_limit_arrive_and_larger_ones_are_refused(port: int, chunked: bool) -> None:
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/", body=iter([b"x" * size]) if chunked else b"x" * size, encode_chunked=chunked,
                           headers={"Transfer-Encoding": "chunked"} if chunked else {})  # fmt: skip
        response = connection.getresponse()
        assert response.status == status
        if status == 200:
            assert json.loads(response.read())["body"] == "x" * size


def test_a_body_that_does_not_arrive_is_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    answer = send(port, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab")
    assert answer.startswith(b"HTTP/1.1 408")


def test_the_link_with_the_token_sets_a_cookie_and_leads_to_the_page_without_it(gated_port: int) -> None:
    refused = ask(gated_port)
    assert refused.status == 401
    assert ask(gated_port, f"/?{PARAMETER}=wrong").status == 401
    assert ask(gated_port, Cookie=f"pocketdit_access_{gated_port}=wrong").status == 401
    entered = ask(gated_port, f"/?a=b&{PARAMETER}={TOKEN}&c=%22")
    assert (entered.status, entered.headers["Location"]) == (303, "/?a=b&c=%22")
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    page = ask(gated_port, "/?c=%22", Cookie=cookie.partition(";")[0])
    assert page.status == 200
    assert json.loads(page.read())["query"] == "c=%22"


@pytest.mark.parametrize("path", ["//attacker.example/", "/\\attacker.example/", "///attacker.example"])
def test_the_token_does_not_redirect_to_other_hosts(gated_port: int, path: str) -> None:
    location = ask(gated_port, f"{path}?{PARAMETER}={TOKEN}").headers["Location"]
    assert location.startswith("/")
    assert location[1] not in "/\\"


def test_other_interfaces_accept_addresses_and_names_of_the_machine_only() -> None:
    allowed = allowed_on("0.0.0.0")
    assert allowed("192.168.0.7:7860", "http://192.168.0.7:7860")
    assert allowed("[fe80::1]:7860", None)
    assert allowed(f"{socket.gethostname()}:7860", None)
    assert not allowed("attacker.example:7860", None)
    assert not allowed("192.168.0.7:7860", "http://192.168.0.8:7860")
    assert not allowed("[::1", None)
    assert not allowed(None, None)


def test_open_connections_do_not_delay_the_end() -> None:
    server = serve(APP)
    port = next(server)
    response = ask(port, "/endless")
    assert response.read(1) == b"."
    stopped = threading.Event()

    def stop() -> None:
        assert next(server, None) is None
        stopped.set()

    threading.Thread(target=stop, daemon=True).start()
    assert stopped.wait(20)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_ctrl_c_is_ignored_while_the_server_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    others, handler = set(threading.enumerate()), signal.getsignal(signal.SIGINT)
    join = threading.Thread.join

    def interrupted_join(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "server":
            os.kill(os.getpid(), signal.SIGINT)
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted_join)
    try:
        assert len(list(serve(APP))) == 1
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C interrupted the shutdown of the server")
    assert set(threading.enumerate()) == others
    assert signal.getsignal(signal.SIGINT) == handler


def test_listen_skips_ports_in_use_and_explains_failures() -> None:
    with listen("127.0.0.1", 5900) as first, listen("127.0.0.1", first.getsockname()[1]) as second:
        assert second.getsockname()[1] > first.getsockname()[1]
    with pytest.raises(ConfigError, match="port=65536: must be from 1 to 65535"):
        listen("127.0.0.1", 65536, "port=")
    with pytest.raises(RunError, match=r"203\.0\.113\.1: cannot listen on this address \(Cannot assign"):
        listen("203.0.113.1", 5900)

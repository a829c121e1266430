"""Checks every request to a server before the application sees it, and adds headers to every response.

The headers prevent pages from loading content from other servers, running inline scripts, and being embedded in other
pages.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterator

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pocketdit.serving.loopback import NAMES, host_name, is_local_request, is_same_origin

BODY_SECONDS = 30.0  # time in which a client must send the body of a request
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With "no-referrer", browsers would send the origin "null" with forms, and the server's own forms would be refused.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Allowed = Callable[[str | None, str | None], bool]
"""A function that returns whether a request with these ``Host`` and ``Origin`` headers is allowed."""


def allowed_on(address: str) -> Allowed:
    """Return a function that decides which requests a server on a network address answers.

    On the loopback interface, the ``Host`` header must be localhost or a loopback address. On other interfaces, it can
    also be a name of this machine or any IP address. IP addresses are safe, because DNS rebinding needs a host name.
    """
    if address in NAMES:
        return is_local_request
    machine = socket.gethostname().lower()
    names = {*NAMES, machine, f"{machine}.local", socket.getfqdn().lower()}

    def is_allowed(host: str | None, origin: str | None) -> bool:
        name = host_name(host) or ""
        return (name in names or _is_ip(name)) and is_same_origin(host, origin)

    return is_allowed


class Guard:
    """An ASGI application that refuses foreign and oversized requests, and passes the others to an application.

    Args:
        app: The application.
        allowed: Function that decides which requests are answered.
        max_body: Maximum size of a request's body in bytes.
    """

    def __init__(self, app: ASGIApp, allowed: Allowed, max_body: int) -> None:
        self.app, self.allowed, self.max_body = app, allowed, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or len(origins) > 1 or not self.allowed(hosts[0], origins[0] if origins else None):
            text = "This server does not answer requests to other host names or from other websites.\n"
            refusal = PlainTextResponse(text, 403)
            await refusal(scope, receive, send_with_headers)
            return
        body = await self._read_body(receive)
        if isinstance(body, PlainTextResponse):
            await body(scope, receive, send_with_headers)
            return
        parts: Iterator[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_body() -> Message:
            return next(parts, None) or await receive()

        await self.app(scope, receive_body, send_with_headers)

    async def _read_body(self, receive: Receive) -> bytes | PlainTextResponse:
        """Return the body of a request, or the response with which the request is refused."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while len(body) <= self.max_body:
                    message = await receive()
                    body += message.get("body", b"")
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            return PlainTextResponse("The request took too long.\n", 408, {"Connection": "close"})
        if len(body) > self.max_body:
            text = f"The request is larger than {self.max_body:,} bytes.\n"
            return PlainTextResponse(text, 413, {"Connection": "close"})
        return bytes(body)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

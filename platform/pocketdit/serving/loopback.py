"""Protects local servers against requests from foreign web pages.

Any web page in the user's browser can reach a server on the loopback interface. A page can send requests to the server
and, if its own host name resolves to 127.0.0.1 (DNS rebinding), even read the responses. The browser sends the host
name and the page's origin with a request, so both are checked.
"""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

HOST = "127.0.0.1"
NAMES = (HOST, "localhost", "::1")

Environ = dict[str, Any]
WSGIApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def is_local_request(host: str | None, origin: str | None) -> bool:
    """Return whether a request addresses this machine and does not come from a page with another origin.

    Args:
        host: The ``Host`` header.
        origin: The ``Origin`` header. Browsers send it with every cross-origin request that can change data.
    """
    return host_name(host) in NAMES and is_same_origin(host, origin)


def host_name(host: str | None) -> str | None:
    """Return the lowercase host name or IP address from a ``Host`` header, or None if it is missing or malformed."""
    try:
        return urlsplit(f"//{host or ''}").hostname
    except ValueError:
        return None


def is_same_origin(host: str | None, origin: str | None) -> bool:
    """Return whether a request comes from a page of the server to which it is sent, or from no page."""
    try:
        target = urlsplit(f"//{host or ''}")
        source = urlsplit(origin) if origin is not None else None
        return source is None or (source.hostname, source.port) == (target.hostname, target.port)
    except ValueError:  # the port is not a number
        return False


def only_local(app: WSGIApp) -> WSGIApp:
    """Wrap a WSGI application so that it responds to all but local requests with status 403."""

    def guarded(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if is_local_request(environ.get("HTTP_HOST"), environ.get("HTTP_ORIGIN")):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"This server answers requests from this machine only.\n"]

    return guarded

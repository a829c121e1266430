"""Starts and stops a server in a thread, so that the main thread can work and receive Ctrl-C."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp


@contextmanager
def running(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """Serve an application within the context. When the context exits, open connections are closed at once.

    Args:
        app: The application.
        listener: A listening socket, which is closed at the end.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="server")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        with _without_interrupts():
            thread.join()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C within the context. Otherwise, pressing it again could interrupt the shutdown of the server."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)

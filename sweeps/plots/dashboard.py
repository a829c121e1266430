"""Serves optuna-dashboard for a study's storage on this machine."""

from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from pocketdit.errors import RunError
from pocketdit.serving.loopback import HOST, only_local
from pocketdit.tracking.ui import find_free_port

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


class _Server(ThreadingMixIn, WSGIServer):
    """A server that handles each request in its own thread, so a slow plot does not block the page."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    """A request handler that does not log requests."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve_dashboard(storage: "BaseStorage", port: int = 8080) -> None:
    """Serve the studies in ``storage`` on ``port`` or the next free port until the user presses Ctrl-C.

    Raises:
        RunError: optuna-dashboard is not installed, or no port is free.
    """
    try:
        from optuna_dashboard import wsgi
    except ModuleNotFoundError as error:
        raise RunError(f"--dashboard needs {error.name}; install it with: pip install 'pocketdit[many]'") from None
    free = find_free_port(port)
    if free != port:
        print(f"Port {port} is in use; using port {free}.")
    app = only_local(wsgi(storage))
    with make_server(HOST, free, app, server_class=_Server, handler_class=_QuietHandler) as server:
        print(f"http://{HOST}:{free}\nPress Ctrl-C to stop.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nStopped.")

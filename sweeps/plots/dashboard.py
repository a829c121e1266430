"""Serves optuna-dashboard for a study's storage on this machine."""

from typing import TYPE_CHECKING

from pocketdit.errors import RunError
from pocketdit.tracking.ui import find_free_port

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

HOST = "127.0.0.1"


def serve_dashboard(storage: "BaseStorage", port: int = 8080) -> None:
    """Serve the studies in ``storage`` on ``port`` or the next free port until the user presses Ctrl-C.

    Raises:
        RunError: optuna-dashboard is not installed, or no port is free.
    """
    try:
        from optuna_dashboard import run_server
    except ModuleNotFoundError as error:
        raise RunError(f"--dashboard needs {error.name}; install it with: pip install optuna-dashboard") from None
    free = find_free_port(port)
    if free != port:
        print(f"Port {port} is in use; using port {free}.")
    print(f"http://{HOST}:{free}\nPress Ctrl-C to stop.", flush=True)
    try:
        run_server(storage, host=HOST, port=free)
    except KeyboardInterrupt:
        print("\nStopped.")

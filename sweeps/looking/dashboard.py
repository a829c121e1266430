"""optuna-dashboard over a study's storage, for this machine alone."""

from typing import TYPE_CHECKING

from pocketdit.errors import RunError
from pocketdit.tracking.ui import free_port

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

HOST = "127.0.0.1"


def dashboard(storage: "str | BaseStorage", port: int = 8080) -> None:
    """Serve the studies of ``storage`` (an SQLAlchemy address, or an open one) on ``port`` or the next free one,
    until Ctrl-C. ``RunError`` where the package is missing or no port is free."""
    try:
        from optuna_dashboard import run_server
    except ModuleNotFoundError as error:
        raise RunError(f"--dashboard needs {error.name}; install it with: pip install optuna-dashboard") from None
    free = free_port(port)
    if free != port:
        print(f"Port {port} is in use, so it is {free}.")
    print(f"http://{HOST}:{free}\nCtrl-C stops it.", flush=True)
    try:
        run_server(storage, host=HOST, port=free)
    except KeyboardInterrupt:
        print("\nStopped.")

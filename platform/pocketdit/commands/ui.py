"""``lightning ui``, which compares runs in MLflow."""

import argparse


def add_ui(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``ui`` subcommand to the parser."""
    ui = subparsers.add_parser(
        "ui",
        help="compare runs in MLflow",
        description="Start an MLflow server that only accepts local connections, and open a comparison of all runs.",
    )
    ui.add_argument("--uri", default="sqlite:///runs/mlflow.db", help="MLflow tracking URI (default: %(default)s)")
    ui.add_argument("--port", type=int, default=5000, help="preferred port (default: %(default)s)")
    ui.add_argument("--no-browser", action="store_true", help="print the address without opening a browser")
    ui.set_defaults(call=call_ui)


def call_ui(args: argparse.Namespace) -> None:
    """Serve a comparison of all runs until Ctrl-C is pressed."""
    from pocketdit.config.secrets import resolve
    from pocketdit.tracking.ui import serve

    serve(resolve(args.uri), args.port, open_browser=not args.no_browser)

"""``lightning ui``: compare runs in MLflow."""

import argparse


def add_ui(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    ui = verbs.add_parser(
        "ui",
        help="compare runs in MLflow",
        description="Start an MLflow server for this machine only, and open a comparison of this project's runs.",
    )
    ui.add_argument("--uri", default="sqlite:///runs/mlflow.db", help="MLflow tracking URI (default: %(default)s)")
    ui.add_argument("--port", type=int, default=5000, help="preferred port (default: %(default)s)")
    ui.add_argument("--no-browser", action="store_true", help="only print the address")
    ui.set_defaults(call=call_ui)


def call_ui(args: argparse.Namespace) -> None:
    """Serve the comparison of all runs until Ctrl-C is pressed."""
    from pocketdit.config.secrets import resolve
    from pocketdit.tracking.ui import serve

    serve(resolve(args.uri), args.port, open_browser=not args.no_browser)

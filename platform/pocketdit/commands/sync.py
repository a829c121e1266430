"""``lightning sync``: send MLflow the events that it missed."""

import argparse
from pathlib import Path


def add_sync(verbs: argparse._SubParsersAction) -> None:
    sync = verbs.add_parser(
        "sync",
        help="send MLflow the events that it missed",
        description="Send MLflow the events of a run that it missed while it was unreachable.",
    )
    sync.add_argument("run", help="path, EXPERIMENT/RUN, or EXPERIMENT for its latest run")
    sync.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    sync.set_defaults(call=call_sync)


def call_sync(args: argparse.Namespace) -> None:
    from pocketdit.artifacts.run_folder import find
    from pocketdit.tracking.sync import sync

    folder = find(args.runs, args.run)
    print(f"{folder.name}: {sync(folder.path)} events sent")

"""``lightning sync``: send MLflow the events that it missed."""

import argparse
from pathlib import Path


def add_sync(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    sync = verbs.add_parser(
        "sync",
        help="send MLflow the events that it missed",
        description="Send MLflow the events of a run that it missed while it was unreachable.",
    )
    sync.add_argument("run", help="path, EXPERIMENT/RUN, or EXPERIMENT for its latest run")
    sync.add_argument("--to", metavar="URI", help="tracking server or database (default: the run's own)")
    sync.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    sync.set_defaults(call=call_sync)


def call_sync(args: argparse.Namespace) -> None:
    """Send the unsent events of a run."""
    from pocketdit.artifacts.run_folder import find
    from pocketdit.config.secrets import resolve
    from pocketdit.tracking.sync import sync

    folder = find(args.runs, args.run)
    uri = resolve(args.to) if args.to else None
    print(f"{folder.name}: {sync(folder.path, uri)} events sent")

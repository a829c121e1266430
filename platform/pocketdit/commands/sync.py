"""``lightning sync``, which sends MLflow the events that it missed during a run."""

import argparse
from pathlib import Path


def add_sync(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``sync`` subcommand to the parser."""
    sync = subparsers.add_parser(
        "sync",
        help="send MLflow the events that it missed during a run",
        description="Send MLflow the events that a run logged while MLflow was unreachable.",
    )
    sync.add_argument("run", help="path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run")
    sync.add_argument("--to", metavar="URI", help="tracking URI (default: the URI in the run's configuration)")
    sync.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    sync.set_defaults(call=call_sync)


def call_sync(args: argparse.Namespace) -> None:
    """Send the unsent events of a run to MLflow."""
    from pocketdit.artifacts.run_folder import find
    from pocketdit.config.secrets import resolve
    from pocketdit.counts import counted
    from pocketdit.tracking.sync import sync

    folder = find(args.runs, args.run)
    uri = resolve(args.to) if args.to else None
    print(f"{folder.name}: {counted(sync(folder.path, uri), 'event')} sent")

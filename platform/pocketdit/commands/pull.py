"""Implements ``lightning pull``. Modules that are slow to import are imported inside functions."""

import argparse
from pathlib import Path


def add_pull(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``pull`` subcommand to the parser."""
    pull = subparsers.add_parser(
        "pull",
        help="download a run that was published on the Hugging Face Hub",
        description="Download a run that `lightning publish` has uploaded to the Hugging Face Hub. On this machine, "
        "the run is also called USER/NAME. Private repositories require a token in the environment variable HF_TOKEN.",
    )
    pull.add_argument("repository", metavar="USER/NAME", help="repository on the Hub")
    pull.add_argument("--revision", metavar="REV", help="branch, tag or commit (default: the newest commit)")
    pull.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    pull.set_defaults(call=call_pull)


def call_pull(args: argparse.Namespace) -> None:
    """Download the run, and print the command to run next."""
    from pocketdit.hub.connection import require_name

    require_name(args.repository, "")
    from pocketdit.artifacts.notice import read_notice
    from pocketdit.artifacts.run_folder import load_experiment
    from pocketdit.hub.pull import pull

    folders = pull(args.repository, args.runs, args.revision)
    for folder in folders:
        print(f"run      {folder.path}")
    if notice := read_notice(folders[0]):
        print(f"note: {notice.rstrip()}")
    print(f"next     {load_experiment(folders[0]).next_command(folders[0].name)}")

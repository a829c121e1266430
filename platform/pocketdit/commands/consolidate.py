"""``lightning consolidate``, which turns a sharded checkpoint into a single file."""

import argparse
from pathlib import Path


def add_consolidate(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``consolidate`` subcommand to the parser."""
    consolidate = subparsers.add_parser(
        "consolidate",
        help="turn the sharded checkpoint of a run into a single file",
        description="Turn the sharded checkpoint that FSDP2 writes for a run into a single file. The run can resume "
        "from this file with any strategy and number of processes. The whole state must fit into the machine's memory.",
    )
    consolidate.add_argument("run", help="path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run")
    consolidate.add_argument(
        "--to", type=Path, metavar="FILE", help="write the file here and keep the shards (default: replace the shards)"
    )
    consolidate.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)"
    )
    consolidate.set_defaults(call=call_consolidate)


def call_consolidate(args: argparse.Namespace) -> None:
    """Consolidate the checkpoint of a run."""
    from pocketdit.artifacts.run_folder import find, lock
    from pocketdit.links import require_no_links_outside
    from pocketdit.running.checkpointing import consolidate

    folder = find(args.runs, args.run)
    require_no_links_outside(folder.path)
    with lock(folder):
        folder.clean()
        step, file = consolidate(folder, args.to)
    print(f"{folder.name}: checkpoint of step {step} in {file}")

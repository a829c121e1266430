"""Implements ``lightning data``. Each of its subcommands is a module of this package."""

import argparse

from pocketdit.commands.data.build import add_build
from pocketdit.commands.data.encode import add_encode
from pocketdit.commands.data.index import add_index
from pocketdit.commands.data.stats import add_stats
from pocketdit.commands.data.validate import add_validate


def add_data(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``data`` subcommand to the parser."""
    data = subparsers.add_parser("data", help="build, index, encode, validate or describe a data set")
    verbs = data.add_subparsers(dest="kind", metavar="build|index|encode|validate|stats", required=True)
    add_build(verbs)
    add_index(verbs)
    add_encode(verbs)
    add_validate(verbs)
    add_stats(verbs)

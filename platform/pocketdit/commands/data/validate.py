"""Implements ``lightning data validate``.

Modules that are slow to import are imported inside functions.
"""

import argparse
from pathlib import Path

from pocketdit.commands.data.options import add_text_option, load_text_encoders
from pocketdit.errors import RunError


def add_validate(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand ``validate`` to ``lightning data``."""
    validate = verbs.add_parser(
        "validate",
        help="check every sample in every shard of a data set",
        description="Check every sample in every shard of a data set, and print the samples that cannot be used.",
    )
    validate.add_argument("path", type=Path, help="folder of the data set")
    add_text_option(validate)
    validate.set_defaults(call=call_validate)


def call_validate(args: argparse.Namespace) -> None:
    """Run ``lightning data validate``."""
    from datamodules.shards.validate import validate_dataset

    report = validate_dataset(args.path, load_text_encoders(args.text))
    print(report)
    if report.problems:
        count = len(report.problems)
        raise RunError(f"{args.path}: {count} {'problem' if count == 1 else 'problems'} (see above)")

"""Implements ``lightning preference``. Modules that are slow to import are imported inside functions."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pocketdit.config.interpolated import require_used
from pocketdit.errors import RunError

if TYPE_CHECKING:
    from evaluation.preference.settings import Preference
    from pocketdit.config.load import Loaded

# Settings that have no effect unless a component of the study refers to them by interpolation, as in ${run}.
_INTERPOLATED = ("run", "data")


def add_preference(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``preference`` subcommand to the parser."""
    preference = subparsers.add_parser("preference", help="ask people which images they prefer")
    verbs = preference.add_subparsers(dest="kind", metavar="create|serve|report", required=True)
    create = _add_verb(
        verbs,
        "create",
        "generate the images of a preference study",
        "Generate the images of all subjects once, and prepare the database. If the command is interrupted, run it "
        "again to continue. To invite more raters, run it again with a higher number, as in raters=20.",
    )
    create.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    create.set_defaults(call=call_create)
    serve = _add_verb(
        verbs,
        "serve",
        "serve the pages on which raters compare images",
        "Serve the pages on which raters compare images. With the default host, anyone on this machine can take part. "
        "With any other host, or with --url, each rater needs a link from the file raters.csv.",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8765, help="preferred port (default: %(default)s)")
    serve.add_argument(
        "--url",
        default="",
        help="URL of a proxy through which raters reach the server, for example https://study.example.org",
    )
    serve.set_defaults(call=call_serve)
    report = _add_verb(
        verbs,
        "report",
        "report what raters prefer",
        "Write a page, tables and a figure with win rates, Bradley-Terry scores and the raters' agreement, and log "
        "them to MLflow. The study can still be running.",
    )
    report.set_defaults(call=call_report)


def _add_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=summary, description=description)
    verb.add_argument("file", type=Path, help="YAML file in experiments/eval/studies/")
    verb.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as run=RUN pairs_per_rater=40")
    return verb


def call_create(args: argparse.Namespace) -> None:
    """Generate the images of a study and prepare the database."""
    loaded = _load(args)
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    from evaluation.preference.create import create

    create(loaded)


def call_serve(args: argparse.Namespace) -> None:
    """Serve the pages for raters until Ctrl-C is pressed."""
    loaded = _load(args)
    from evaluation.preference.web.serve import serve

    serve(loaded, args.host, args.port, args.url)


def call_report(args: argparse.Namespace) -> None:
    """Write the report of a study."""
    loaded = _load(args)
    for package in ("statsmodels", "krippendorff"):
        from importlib.util import find_spec

        if find_spec(package) is None:
            raise RunError(f"report: {package} is not installed; install it with: pip install 'pocketdit[preference]'")
    from evaluation.preference.report.write import write_report

    write_report(loaded)


def _load(args: argparse.Namespace) -> "Loaded[Preference]":
    from evaluation.preference.settings import Preference
    from pocketdit.config.load import load

    loaded = load(args.file, args.overrides, Preference)
    require_used(args.file, args.overrides, _INTERPOLATED)
    return loaded

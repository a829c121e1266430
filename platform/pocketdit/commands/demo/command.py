"""Implements ``lightning demo``. Modules that are slow to import are imported inside functions."""

import argparse


def add_demo(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``demo`` subcommand to the parser."""
    demo = subparsers.add_parser(
        "demo",
        help="sample images in the browser",
        description="Serve a web page on which you can sample images from a run at several widths, and compare the run "
        "with another run.",
    )
    demo.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="run=RUN; optionally against=RUN (a run to compare with), decoder=RUN (a run of a tiny decoder), "
        "out=FOLDER (default: playground), port=7860, browser=false (do not open a browser), runs=FOLDER and "
        "address=0.0.0.0 (also accept connections from other machines, which need the link that contains the token)",
    )  # fmt: skip
    demo.set_defaults(call=call_demo)


def call_demo(args: argparse.Namespace) -> None:
    """Serve the playground until Ctrl-C is pressed."""
    from pocketdit.commands.demo.settings import Demo
    from pocketdit.config.arguments import parse_settings

    settings = parse_settings(args.overrides, Demo)
    from pocketdit.commands.demo.serve import serve

    serve(settings)

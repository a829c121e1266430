"""Implements ``lightning latency``. Modules that are slow to import are imported inside functions."""

import argparse
from pathlib import Path


def add_latency(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``latency`` subcommand to the parser."""
    latency = subparsers.add_parser(
        "latency",
        help="predict the latency of a Core ML or Core AI bundle on a device, or measure a Core ML bundle",
        description="Predict the latency of a bundle from its census, or measure a Core ML bundle on a Mac or "
        "a connected iPhone.",
    )
    latency.add_argument("bundle", type=Path, help="folder that lightning export created")
    latency.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="device=iphone16promax to predict; measure=mac or measure=iphone team=TEAM to measure; also units=UNITS "
        "and iterations=N",
    )  # fmt: skip
    latency.set_defaults(call=call_latency)


def call_latency(args: argparse.Namespace) -> None:
    """Predict or measure the latency of a bundle, and print tables of the bundle's latency records."""
    from pocketdit.config.arguments import parse_settings
    from pocketdit.latency.settings import Latency

    settings = parse_settings(args.overrides, Latency)
    from pocketdit.config.shell import command_line, setting
    from pocketdit.export.coreml.dependency import silence_coremltools
    from pocketdit.latency.bundles import open_bundle
    from pocketdit.latency.records import read_records
    from pocketdit.latency.report import measure_bundle, predict_bundle

    silence_coremltools()
    bundle = open_bundle(args.bundle)
    print(measure_bundle(bundle, settings) if settings.measure else predict_bundle(bundle, settings))
    if bundle.run:
        device = read_records(bundle.folder)[-1].device
        words = setting("run", bundle.run), setting("device", device), setting("size", bundle.size_text)
        print(f"next     {command_line('recommend', *words, 'budget=400ms')}")

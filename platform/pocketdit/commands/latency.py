"""``lightning latency`` and ``lightning recommend``. Nothing heavy is imported before it is needed."""

import argparse
from pathlib import Path

from pocketdit.commands.export import quiet_libraries


def add_latency(verbs: argparse._SubParsersAction) -> None:
    latency = verbs.add_parser(
        "latency",
        help="predict or measure what an exported bundle takes on a device",
        description="Predict a bundle's latency from its census, or measure it on a Mac or a connected iPhone.",
    )
    latency.add_argument("bundle", type=Path, help="a folder that lightning export wrote")
    latency.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="device=iphone16promax (predicted), or measure=mac, measure=iphone team=TEAM; units, iterations",
    )  # fmt: skip
    latency.set_defaults(call=call_latency)


def add_recommend(verbs: argparse._SubParsersAction) -> None:
    recommend = verbs.add_parser(
        "recommend",
        help="the best width and number of steps within a budget",
        description="Choose a run's width and number of steps by recorded quality within a budget.",
    )
    recommend.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="run=RUN device=iphone16promax and a budget: budget=400ms (one denoising step with its guidance), "
        "picture=2s (all steps and the decoder), memory=1.5GB; also metric=NAME, size=1024x1024",
    )  # fmt: skip
    recommend.set_defaults(call=call_recommend)


def call_latency(args: argparse.Namespace) -> None:
    from pocketdit.latency.settings import Latency, from_words

    settings = from_words(args.overrides, Latency)
    quiet_libraries()
    from pocketdit.latency.bundles import open_bundle
    from pocketdit.latency.report import measure_bundle, predict_bundle

    bundle = open_bundle(args.bundle)
    print(measure_bundle(bundle, settings) if settings.measure else predict_bundle(bundle, settings))
    if bundle.run:
        from pocketdit.latency.records import read

        device = read(bundle.folder)[-1].device
        print(f'next     lightning recommend run={bundle.run} "device={device}" size={bundle.size_text} budget=400ms')


def call_recommend(args: argparse.Namespace) -> None:
    from pocketdit.latency.settings import Recommend, from_words

    settings = from_words(args.overrides, Recommend)
    quiet_libraries()
    from pocketdit.latency.recommend import recommend

    recommend(settings)

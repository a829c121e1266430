"""Implements ``lightning verify``. Modules that are slow to import are imported inside functions."""

import argparse
from pathlib import Path


def add_verify(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``verify`` subcommand to the parser."""
    verify = subparsers.add_parser(
        "verify",
        help="compare the packages of a bundle with the run from which they were exported",
        description="Run exported Core ML or Core AI packages, and compare their outputs with those of PyTorch.",
    )
    verify.add_argument("bundle", type=Path, help="folder that lightning export created")
    verify.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as run=RUN times=[0.5]")
    verify.set_defaults(call=call_verify)


def call_verify(args: argparse.Namespace) -> None:
    """Compare the packages of a bundle with the run from which they were exported."""
    from pocketdit.export.common.open_manifest import read_manifest

    if read_manifest(args.bundle)["settings"]["kind"] == "coreai":
        from pocketdit.export.coreai.dependency import require_coreai, silence_coreai

        require_coreai()
        silence_coreai()
        from pocketdit.export.coreai.bundle import verify_bundle as verify_coreai_bundle

        verify_coreai_bundle(args.bundle, args.overrides)
        return
    from pocketdit.export.coreml.dependency import require_coremltools, silence_coremltools

    require_coremltools()
    silence_coremltools()
    from pocketdit.export.coreml.bundle import verify_bundle

    verify_bundle(args.bundle, args.overrides)

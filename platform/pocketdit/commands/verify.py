"""``lightning verify``. Nothing heavy is imported before it is needed."""

import argparse
from pathlib import Path


def add_verify(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    verify = verbs.add_parser(
        "verify",
        help="compare a Core ML bundle with the run that it was exported from",
        description="Execute exported Core ML packages operation by operation and compare them with PyTorch.",
    )
    verify.add_argument("bundle", type=Path, help="a folder written by lightning export")
    verify.add_argument("overrides", nargs="*", metavar="key=value", help="for example run=RUN times=[0.5]")
    verify.set_defaults(call=call_verify)


def call_verify(args: argparse.Namespace) -> None:
    """Verify a bundle."""
    from pocketdit.export.coreml.dependency import require_coremltools, silence_coremltools

    require_coremltools()
    silence_coremltools()
    from pocketdit.export.coreml.bundle import verify_bundle

    verify_bundle(args.bundle, args.overrides)

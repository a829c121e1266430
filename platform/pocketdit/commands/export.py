"""``lightning export`` and ``lightning verify``. Nothing heavy is imported before it is needed."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from pocketdit.errors import ConfigError


def add_export(verbs: argparse._SubParsersAction) -> None:
    export = verbs.add_parser(
        "export",
        help="a sub-network as Core ML packages or a LiteRT file",
        description="Convert one width of a run to Core ML or LiteRT, as the YAML says, and check it against PyTorch.",
    )
    export.add_argument("file", type=Path, help="a YAML in experiments/export/")
    export.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example run=RUN width=0.5 size=1024x1024"
    )
    export.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    export.set_defaults(call=call_export)
    verify = verbs.add_parser(
        "verify",
        help="compare exported packages with the run that they are of",
        description="Execute exported packages operation by operation and compare them with PyTorch.",
    )
    verify.add_argument("bundle", type=Path, help="a folder that lightning export wrote")
    verify.add_argument("overrides", nargs="*", metavar="key=value", help="for example run=RUN times=[0.5]")
    verify.set_defaults(call=call_verify)


def call_export(args: argparse.Namespace) -> None:
    from pocketdit.config.load import Loaded, load
    from pocketdit.export.settings import Export
    from pocketdit.litert.settings import LiteRTExport, kind_of

    loaded: Loaded[Export | LiteRTExport] = load(args.file, args.overrides, kind_of(args.file))
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    quiet_libraries()
    if isinstance(loaded.config, LiteRTExport):
        from pocketdit.litert.export import export as export_litert

        folder = export_litert(loaded.config)
        print(f"\nnext     put {folder / 'network.tflite'} with its manifest.json into the application")
        return
    require_coremltools()
    from pocketdit.export.build import export

    folder = export(loaded.config)
    print(f"\nbundle   {folder}")
    print(f"next     lightning verify {folder}     (again, or against another run by run=RUN)")


def call_verify(args: argparse.Namespace) -> None:
    require_coremltools()
    quiet_libraries()
    from pocketdit.export.build import verify_bundle

    verify_bundle(args.bundle, args.overrides)


def require_coremltools() -> None:
    if find_spec("coremltools") is None:
        raise ConfigError("coremltools is not installed: pip install 'pocketdit[export]'")


def quiet_libraries() -> None:
    """coremltools tells what it cannot do on Linux whenever it is imported, and which versions it has not tried."""
    import logging

    logging.disable(logging.WARNING)

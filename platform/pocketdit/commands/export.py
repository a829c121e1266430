"""``lightning export``. Modules that are slow to import are imported inside functions."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from pocketdit.export.coreml.settings import CoreMLExport
    from pocketdit.export.litert.settings import LiteRTExport


def add_export(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the command line."""
    export = subparsers.add_parser(
        "export",
        help="export a sub-network as Core ML packages or a LiteRT file",
        description="Convert one width of a run to Core ML or LiteRT, and compare the result with PyTorch.",
    )
    export.add_argument("file", type=Path, help="YAML file in experiments/export/")
    export.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example run=RUN width=0.5 size=1024x1024"
    )
    export.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    export.set_defaults(call=call_export)


def call_export(args: argparse.Namespace) -> None:
    """Load the settings, and export to Core ML or LiteRT as they specify."""
    from pocketdit.config.load import Loaded, load
    from pocketdit.export.coreml.dependency import require_coremltools
    from pocketdit.export.coreml.settings import CoreMLExport
    from pocketdit.export.litert.dependency import require_litert
    from pocketdit.export.litert.settings import LiteRTExport
    from pocketdit.export.settings import Export, settings_class

    kind = settings_class(args.file)
    if not args.print_config:  # check that the package is installed before anything is loaded
        require_coremltools() if kind is CoreMLExport else require_litert()
    loaded: Loaded[Export] = load(args.file, args.overrides, kind)
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    match loaded.config:
        case CoreMLExport() as settings:
            _export_coreml(settings)
        case LiteRTExport() as settings:
            _export_litert(settings)
        case _:
            assert_never(loaded.config)


def _export_coreml(settings: "CoreMLExport") -> None:
    from pocketdit.export.coreml.dependency import silence_coremltools

    silence_coremltools()
    from pocketdit.config.shell import command_line, operand
    from pocketdit.export.coreml.export import export_coreml

    folder = export_coreml(settings)
    print(f"\nbundle   {folder}")
    print(f"next     {command_line('verify', operand(folder))}     (add run=RUN to compare it with another run)")


def _export_litert(settings: "LiteRTExport") -> None:
    from pocketdit.export.litert.export import export_litert
    from pocketdit.latency.measure_litert import measure_exported
    from pocketdit.latency.records import latency_tables

    model = export_litert(settings)
    if records := measure_exported(model, settings.litert):
        print(f"\n{latency_tables(records)}")
    print(f"\nbundle   {model.file.parent}")
    print(f"next     add {model.file.name} and manifest.json to the app")

"""Implements ``lightning export``. Modules that are slow to import are imported inside functions."""

import argparse
from pathlib import Path


def add_export(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``export`` subcommand to the parser."""
    export = subparsers.add_parser(
        "export",
        help="export a sub-network as Core ML packages, Core AI packages, or LiteRT files",
        description="Convert one width of a run to Core ML, Core AI or LiteRT, and compare the result with PyTorch.",
    )
    export.add_argument("file", type=Path, help="YAML file in experiments/export/")
    export.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings, such as run=RUN width=0.5 size=1024x1024"
    )
    export.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    export.set_defaults(call=call_export)


def call_export(args: argparse.Namespace) -> None:
    """Export a sub-network as the settings specify, and print the command to run next."""
    from pocketdit.api.exporting import export_loaded, load_export
    from pocketdit.export.litert.settings import LiteRTExport

    loaded = load_export(args.file, args.overrides, require_package=not args.print_config)
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    exported = export_loaded(loaded)
    if isinstance(exported, Path):
        from pocketdit.config.shell import command_line, operand

        verify = command_line("verify", operand(exported))
        print(f"\nbundle   {exported}")
        print(f"next     {verify}     (add run=RUN to compare it with another run)")
        print(f"         {sample_line(exported)}")
        return
    from pocketdit.latency.measure_litert import measure_exported
    from pocketdit.latency.records import latency_tables

    assert isinstance(loaded.config, LiteRTExport)
    if records := measure_exported(exported, loaded.config.litert):
        print(f"\n{latency_tables(records)}")
    print(f"\nbundle   {exported.file.parent}")
    print(f"next     {sample_line(exported.file.parent)}")


def sample_line(bundle: Path) -> str:
    """Return the command that samples an image with a bundle."""
    from pocketdit.config.shell import command_line, operand

    return f'{command_line("sample", operand(bundle))} "a red circle left of a blue square"'

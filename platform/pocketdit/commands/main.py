"""The command-line interface, installed as ``lightning`` and ``pocketdit``.

Modules that are slow to import are imported only by the subcommands that need them.
"""

import argparse
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from errno import EDQUOT, ENOSPC
from pathlib import Path

from typing_extensions import override

from pocketdit.commands.consolidate import add_consolidate
from pocketdit.commands.data.command import add_data
from pocketdit.commands.demo.command import add_demo
from pocketdit.commands.doctor import add_doctor
from pocketdit.commands.evaluate import add_evaluate
from pocketdit.commands.export import add_export
from pocketdit.commands.init import add_init
from pocketdit.commands.latency import add_latency
from pocketdit.commands.preference import add_preference
from pocketdit.commands.publish import add_publish
from pocketdit.commands.pull import add_pull
from pocketdit.commands.recommend import add_recommend
from pocketdit.commands.run import add_run
from pocketdit.commands.sample.command import add_sample
from pocketdit.commands.sweep import add_sweep
from pocketdit.commands.sync import add_sync
from pocketdit.commands.terminal import OutputClosedError, clean_output
from pocketdit.commands.ui import add_ui
from pocketdit.commands.verify import add_verify
from pocketdit.errors import ConfigError, UserError

EPILOG = """\
Other commands are passed to Lightning: lightning run SCRIPT.py, lightning fabric ...
To get started: lightning data build scenes data/scenes && lightning run experiments/elastic_pretrain.yaml"""
LIGHTNING_COMMANDS = ("fabric",)


class Version(argparse.Action):
    """Prints the installed version. It is read only on request, because reading it takes time."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    @override
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"pocketdit {version('pocketdit')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Build the parser with all subcommands."""
    top = argparse.ArgumentParser(
        prog="lightning",
        description="PocketDiT: train, sample and compare elastic diffusion transformers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=Version, help="print the version and exit")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND")
    add_init(subparsers)
    add_run(subparsers)
    add_consolidate(subparsers)
    add_sample(subparsers)
    add_demo(subparsers)
    add_evaluate(subparsers)
    add_preference(subparsers)
    add_export(subparsers)
    add_verify(subparsers)
    add_publish(subparsers)
    add_pull(subparsers)
    add_latency(subparsers)
    add_recommend(subparsers)
    add_sweep(subparsers)
    add_data(subparsers)
    add_ui(subparsers)
    add_sync(subparsers)
    add_doctor(subparsers)
    return top


def is_lightning_command(arguments: Sequence[str]) -> bool:
    """Return whether a command belongs to Lightning: ``fabric``, or ``run`` without a YAML file."""
    if not arguments or arguments[0] not in (*LIGHTNING_COMMANDS, "run"):
        return False
    rest = arguments[1:]
    is_ours = not rest or rest[0] in ("-h", "--help") or any(Path(word).suffix in (".yaml", ".yml") for word in rest)
    return arguments[0] != "run" or not is_ours


def run_lightning(arguments: Sequence[str]) -> int:
    """Pass a command to Lightning's own command line and return its exit status."""
    import click
    from lightning.fabric.cli import _main

    words = list(arguments[1:] if arguments[0] == "fabric" else arguments)
    if words[0] == "run" and any(Path(f"{word}.yaml").is_file() for word in words[1:]):
        raise ConfigError(
            "file: the name of the YAML file must include its suffix, as in experiments/elastic_pretrain.yaml"
        )
    try:
        return int(_main.main(args=words, prog_name="lightning", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command. Overrides and prompts can appear anywhere, including after options.

    argparse only accepts them in one place, so this function assigns the ones that argparse does not recognize. Words
    after ``--`` may begin with a hyphen.
    """
    top = parser()
    args, rest = top.parse_known_args(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    rest, operands = rest[:end], rest[end + 1 :]
    if hasattr(args, "overrides"):
        if is_override(getattr(args, "resume", None) or ""):  # an override that follows --resume is not its value
            rest, args.resume = [args.resume, *rest], ""
        rest += operands
        words = [*args.overrides, *rest]
        args.overrides = [word for word in words if "=" in word and not word.startswith("-")]
        rest = [word for word in words if "=" not in word or word.startswith("-")]
    elif hasattr(args, "prompts"):
        args.prompts = [*args.prompts, *(word for word in rest if not word.startswith("-")), *operands]
        rest = [word for word in rest if word.startswith("-")]
    if rest:
        hint = ""
        if hasattr(args, "prompts"):
            hint = " (write -- before a prompt that begins with a hyphen)"
        elif hasattr(args, "overrides"):
            hint = " (settings have the form key=value, for example run=RUN)"
        top.error(f"unrecognized arguments: {shlex.join(rest)}{hint}")
    return args


def is_override(word: str) -> bool:
    """Return whether a word is an override rather than the name or the path of a run, which may also contain "="."""
    key, equals, _ = word.partition("=")
    return bool(equals) and "/" not in key


def use_working_directory() -> None:
    """Append the working directory to the import path, so that class paths can name the user's modules.

    ``python -m`` puts the working directory first, where folders named ``evaluation`` or ``datamodules`` would hide the
    packages of this project.
    """
    folder = str(Path.cwd())
    sys.path[:] = [*(entry for entry in sys.path if entry not in ("", folder)), folder]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of PocketDiT or of Lightning.

    Returns:
        Exit status: 0 for success, 1 for a failure, and 2 for a usage or configuration error.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    status = 1
    if is_lightning_command(arguments):
        return with_reported_errors(run_lightning, arguments)
    with clean_output():
        status = with_reported_errors(run_command, arguments)
    return status


def run_command(arguments: Sequence[str]) -> int:
    """Run a command of PocketDiT and return its exit status."""
    args = parse(arguments)
    if args.command is None:
        parser().print_help()
        return 2
    use_working_directory()
    args.call(args)
    return 0


def with_reported_errors(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command. Errors that the user can fix are reported on one line, and all other errors with a traceback."""
    name = arguments[0] if arguments else ""
    try:
        return command(arguments)
    except UserError as error:
        print(f"lightning {name}: {one_line(error)}", file=sys.stderr)
        return error.status
    except OSError as error:  # for example, a full disk or a folder that is not writable
        hint = "; free some disk space, then run the command again" if error.errno in (ENOSPC, EDQUOT) else ""
        print(f"lightning {name}: {one_line(error)}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"lightning {name}: interrupted", file=sys.stderr)
        return 1
    except OutputClosedError:
        raise
    except Exception:
        traceback.print_exc()  # this output is masked; the interpreter's own traceback would show secrets
        return 1


def one_line(error: Exception) -> str:
    """Return the message of an error on one line. File names and other values in it may contain line breaks."""
    return " ".join(str(error).splitlines())

"""The command line. Nothing heavy is imported before a verb needs it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pocketdit.commands.data import add_data
from pocketdit.commands.evaluate import add_evaluate
from pocketdit.commands.export import add_export
from pocketdit.commands.latency import add_latency, add_recommend
from pocketdit.commands.sweep import add_sweep
from pocketdit.commands.sync import add_sync
from pocketdit.commands.ui import add_ui
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.errors import ConfigError, UserError

if TYPE_CHECKING:
    from pocketdit.config.experiment import BaseExperiment

EPILOG = """\
Whatever is not ours goes to Lightning's own command: lightning run SCRIPT.py, lightning consolidate ...
Start here: lightning data build scenes data/scenes && lightning run experiments/elastic_pretrain.yaml"""
LIGHTNING_VERBS = ("consolidate", "fabric")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lightning",
        description="PocketDiT: train, sample and compare elastic diffusion transformers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    add_run(verbs)
    add_sample(verbs)
    add_evaluate(verbs)
    add_export(verbs)
    add_latency(verbs)
    add_recommend(verbs)
    add_sweep(verbs)
    add_data(verbs)
    add_ui(verbs)
    add_sync(verbs)
    return top


def add_run(verbs: argparse._SubParsersAction) -> None:
    run = verbs.add_parser("run", help="train what a YAML describes", description="Train what a YAML describes.")
    run.add_argument("file", type=Path, help="a YAML in experiments/")
    run.add_argument("overrides", nargs="*", metavar="key=value", help="for example training.max_steps=200")
    run.add_argument("--plan", action="store_true", help="print parameters, memory, FLOPs and time, then exit")
    run.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    run.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with RUN, or with the experiment's latest run (a new one where there is none)",
    )
    run.add_argument("--name", help="name of the new run (default: the time)")
    run.add_argument("--allow-changes", action="store_true", help="let a resumed run go on with other settings")
    run.set_defaults(call=call_run)


def add_sample(verbs: argparse._SubParsersAction) -> None:
    sample = verbs.add_parser("sample", help="draw pictures from prompts", description="Draw pictures from prompts.")
    sample.add_argument("run", help="path, EXPERIMENT/RUN, or EXPERIMENT for its latest")
    sample.add_argument("prompts", nargs="*", metavar="prompt", help="none: the run's own prompts")
    sample.add_argument("--width", type=float, nargs="+", metavar="W", help="widths (default: all of the run's)")
    sample.add_argument("--steps", type=int)
    sample.add_argument("--sampler", choices=get_args(SamplerName))
    sample.add_argument("--guidance", type=float)
    sample.add_argument("--seed", type=int)
    sample.add_argument("--size", metavar="HxW", help="picture height and width in pixels, for example 128x128")
    sample.add_argument("--decoder", metavar="RUN", help="draw with this run's tiny decoder, not the autoencoder's own")
    sample.add_argument("--out", type=Path, default=Path("sample.png"))
    sample.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    sample.set_defaults(call=call_sample)


def call_run(args: argparse.Namespace) -> None:
    from pocketdit.config.experiment import kind_of
    from pocketdit.config.load import Loaded, load

    loaded: Loaded[BaseExperiment] = load(args.file, args.overrides, kind_of(args.file))
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    if args.plan:
        from pocketdit.running.requirements import quiet_warnings

        quiet_warnings()
        print(plan_of(loaded.config))
        return
    from pocketdit.running.requirements import quiet_warnings, require_data, require_folder, require_parents

    require_folder(loaded.config, args.resume, args.name)
    require_data(loaded.config)
    require_parents(loaded.config)
    quiet_warnings()
    from pocketdit.running.fit import run

    run(loaded, args.resume, args.name, args.allow_changes)


def plan_of(experiment: "BaseExperiment") -> str:
    from pocketdit.config.experiment import DecoderExperiment, Experiment

    if isinstance(experiment, DecoderExperiment):
        from pocketdit.running.decoder_cost import plan_decoder

        return plan_decoder(experiment)
    from pocketdit.running.cost_estimate import plan

    assert isinstance(experiment, Experiment)
    return plan(experiment)


def call_sample(args: argparse.Namespace) -> None:
    size = parse_size(args.size) if args.size else None
    if args.steps is not None and args.steps < 1:
        raise ConfigError(f"--steps {args.steps}: must be at least 1")
    from pocketdit.artifacts.run_folder import find

    folder = find(args.runs, args.run)
    from pocketdit.commands.sample import sample_grid

    wanted = {
        "prompts": tuple(args.prompts) or None,
        "steps": args.steps,
        "sampler": args.sampler,
        "guidance": args.guidance,
        "seed": args.seed,
        "size": size,
    }
    decoder = find(args.runs, args.decoder) if args.decoder else None
    sample_grid(folder, {k: v for k, v in wanted.items() if v is not None}, args.width, args.out, decoder)


def parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise ConfigError(f"--size {text}: expected HEIGHTxWIDTH in pixels, for example 128x160")
    return int(height), int(width)


def ours(arguments: Sequence[str]) -> bool:
    """Whether a command is this project's; otherwise it is Lightning's (``run`` of anything but a YAML)."""
    if not arguments or arguments[0] not in (*LIGHTNING_VERBS, "run"):
        return True
    words = arguments[1:]
    asks_us = not words or words[0] in ("-h", "--help") or any(Path(w).suffix in (".yaml", ".yml") for w in words)
    return arguments[0] == "run" and asks_us


def lightnings_command(arguments: Sequence[str]) -> int:
    import click
    from lightning.fabric.cli import _main

    words = list(arguments[1:] if arguments[0] == "fabric" else arguments)
    if words[0] == "run" and any(Path(f"{word}.yaml").is_file() for word in words[1:]):
        raise ConfigError("a run is named by its YAML with the suffix, for example experiments/elastic_pretrain.yaml")
    try:
        return int(_main.main(args=words, prog_name="lightning", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Shell status: 0 done, 2 wrong use or configuration, 1 failed."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not ours(arguments):
        try:
            return lightnings_command(arguments)
        except ConfigError as error:
            print(f"lightning run: {error}", file=sys.stderr)
            return error.status
    top = parser()
    args, rest = top.parse_known_args(arguments)
    if args.verb is None:
        top.print_help()
        return 2
    if args.verb in ("run", "evaluate", "sweep", "export", "verify", "latency", "recommend"):
        # Overrides may stand anywhere, also behind --resume, which would take one for a run's name.
        if args.verb == "run" and args.resume and "=" in args.resume:
            rest, args.resume = [args.resume, *rest], ""
        rest = [*args.overrides, *rest]
        args.overrides, rest = (
            [word for word in rest if "=" in word and word[0] != "-"],
            [word for word in rest if "=" not in word or word[0] == "-"],
        )
    if args.verb == "sample":
        # argparse takes prompts in one place only; they may also stand behind options.
        args.prompts, rest = [*args.prompts, *(w for w in rest if w[0] != "-")], [w for w in rest if w[0] == "-"]
    if rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    # Class paths in a user's own folder are found from where the command is given.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        args.call(args)
    except UserError as error:
        print(f"lightning {args.verb}: {error}", file=sys.stderr)
        return error.status
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"lightning {args.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"lightning {args.verb}: stopped", file=sys.stderr)
        return 1
    return 0

"""``lightning run``, which runs a training experiment or a recipe, or estimates an experiment's cost."""

import argparse
from pathlib import Path

from pocketdit.commands.options import parse_tags
from pocketdit.commands.recipe.command import add_recipe_options, call_recipe, is_recipe, require_experiment


def add_run(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``run`` subcommand to the parser."""
    run = subparsers.add_parser(
        "run",
        help="run a training experiment or a recipe",
        description="Run the training experiment or the recipe that a YAML file describes.",
    )
    run.add_argument("file", type=Path, help="YAML file in experiments/")
    run.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as training.max_steps=200")
    run.add_argument("--plan", action="store_true", help="estimate parameters, memory, FLOPs and time, then exit")
    run.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    run.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="resume RUN or, without a name, the latest run of the experiment; start a new run if none exists",
    )
    run.add_argument("--name", help="name of the new run (default: the current time)")
    run.add_argument(
        "--allow-changes",
        action="store_true",
        help="with --resume: accept settings that have changed since the run started",
    )
    run.add_argument(
        "--tag", action="append", default=[], metavar="KEY=VALUE", help="tag the run in MLflow; can be repeated"
    )
    add_recipe_options(run)
    run.set_defaults(call=call_run)


def call_run(args: argparse.Namespace) -> None:
    """Load the configuration, then print it, estimate its cost, train, or run the tasks of a recipe."""
    if is_recipe(args.file):
        call_recipe(args)
        return
    require_experiment(args)
    if not (args.print_config or args.plan):
        from pocketdit.api.training import train

        tags = parse_tags(args.tag)
        train(
            args.file, args.overrides, resume=args.resume, name=args.name, allow_changes=args.allow_changes, tags=tags
        )
        return
    from pocketdit.config.experiment import kind_of
    from pocketdit.config.load import load

    loaded = load(args.file, args.overrides, kind_of(args.file))
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    from pocketdit.running.cost_estimate import cost_estimate
    from pocketdit.running.requirements import quiet_warnings

    quiet_warnings()
    print(cost_estimate(loaded.config))

"""Implements ``lightning evaluate``. Modules that are slow to import are imported inside functions."""

import argparse
from pathlib import Path

from pocketdit.commands.options import parse_tags
from pocketdit.errors import ConfigError


def add_evaluate(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``evaluate`` subcommand to the parser."""
    evaluate = subparsers.add_parser(
        "evaluate",
        help="score a run, a diffusers pipeline or a folder of images",
        description="Sample images for all prompts once, and compute every metric of the YAML file on them.",
    )
    evaluate.add_argument("file", type=Path, nargs="?", help="YAML file in experiments/eval/")
    evaluate.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings, such as run=RUN width=0.5 steps=28"
    )
    evaluate.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    evaluate.add_argument(
        "--table", action="store_true", help="print the paper's tables with all results in --out, then exit"
    )
    evaluate.add_argument("--out", type=Path, help="with --table: folder of the results (default: evaluations)")
    evaluate.add_argument("--golden", type=Path, nargs="+", metavar="FILE",
                          help="compare the scoring functions with the expected values in FILE, then exit")  # fmt: skip
    evaluate.add_argument("--compare", type=Path, nargs=2, metavar="RESULTS",
                          help="compare two results for the same prompts, prompt by prompt, then exit")  # fmt: skip
    evaluate.add_argument("--fetch", action="store_true", help="download the files that the components need, then exit")
    evaluate.add_argument("--from", dest="source", type=Path, metavar="FOLDER",
                          help="with --fetch: copy files from this folder instead of downloading them")  # fmt: skip
    evaluate.add_argument("--tag", action="append", default=[], metavar="KEY=VALUE",
                          help="tag the evaluation in MLflow; can be repeated")  # fmt: skip
    evaluate.set_defaults(call=call_evaluate)


def call_evaluate(args: argparse.Namespace) -> None:
    """Run an evaluation, or inspect the results of previous evaluations."""
    if args.source and not args.fetch:
        raise ConfigError("--from FOLDER requires --fetch")
    if args.out and not args.table:
        raise ConfigError("--out requires --table; to set the folder of an evaluation, use out=FOLDER")
    if args.golden or args.compare or args.table:
        inspect_results(args)
    elif args.file is None:
        raise ConfigError("file: specify a YAML file in experiments/eval/, or use --golden, --compare or --table")
    else:
        run_evaluation(args)


def inspect_results(args: argparse.Namespace) -> None:
    """Print a comparison with golden values, a comparison of two results, or the paper's tables."""
    if args.file is not None or args.overrides:
        extra = args.file or args.overrides[0]
        raise ConfigError(f"{extra} cannot be combined with --golden, --compare or --table; remove it")
    if args.golden:
        from evaluation.report.golden import print_outcome

        for path in args.golden:
            if len(args.golden) > 1:
                print(f"{path}: ", end="", flush=True)
            print_outcome(path)
    elif args.compare:
        from evaluation.report.compare import compare
        from evaluation.report.results import load

        print(compare(*map(load, args.compare)))
    else:
        from evaluation.report.paper_tables import render_tables

        print(render_tables(args.out or Path("evaluations")))


def run_evaluation(args: argparse.Namespace) -> None:
    """Print the configuration, fetch the files that the evaluation needs, or run the evaluation."""
    from pocketdit.api.evaluating import evaluate_loaded, load_evaluation

    loaded = load_evaluation(args.file, args.overrides)
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    if args.fetch:
        from evaluation.assets import fetch_files

        fetch_files(loaded.config, args.source)
        return
    folder = evaluate_loaded(loaded, parse_tags(args.tag))
    if folder is not None:
        print(f"\nreport   {folder / 'report.html'}")
        print("next     lightning evaluate --table     (the paper's tables with these results)")

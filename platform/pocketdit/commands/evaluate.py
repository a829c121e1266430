"""``lightning evaluate``. Nothing heavy is imported before it is needed."""

import argparse
from pathlib import Path

from pocketdit.errors import ConfigError

# Settings at the top of an evaluation that reach its components by interpolation alone.
SHARED = ("run", "width", "steps", "guidance", "sampler", "seed", "data", "device")


def add_evaluate(verbs: argparse._SubParsersAction) -> None:
    evaluate = verbs.add_parser(
        "evaluate",
        help="score a run, a diffusers pipeline or a folder of pictures",
        description="Draw a benchmark's prompts once and score the pictures with any set of metrics.",
    )
    evaluate.add_argument("file", type=Path, nargs="?", help="a YAML in experiments/eval/")
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help="for example run=RUN width=0.5 steps=28")
    evaluate.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    evaluate.add_argument("--table", action="store_true", help="print the paper's tables with all results under out")
    evaluate.add_argument("--out", type=Path, help="with --table: where results lie (default evaluations)")
    evaluate.add_argument("--golden", type=Path, nargs="+", metavar="FILE", help="check expected values, then exit")
    evaluate.add_argument("--compare", type=Path, nargs=2, metavar="RESULTS",
                          help="paired comparison of two results on the same prompts, then exit")  # fmt: skip
    evaluate.add_argument("--fetch", action="store_true", help="download what the file's components need, then exit")
    evaluate.add_argument("--from", dest="source", type=Path, metavar="FOLDER",
                          help="with --fetch: take files from this folder instead of the network")  # fmt: skip
    evaluate.set_defaults(call=call_evaluate)


def call_evaluate(args: argparse.Namespace) -> None:
    if args.source and not args.fetch:
        raise ConfigError("--from FOLDER goes with --fetch")
    if args.out and not args.table:
        raise ConfigError("--out goes with --table; for an evaluation write out=FOLDER")
    if args.golden or args.compare or args.table:
        if args.file is not None or args.overrides:
            surplus = args.file or args.overrides[0]
            raise ConfigError(f"{surplus}: --golden, --compare and --table take no evaluation file and no settings")
        from evaluation import evaluate

        if args.golden:
            for golden in args.golden:
                if len(args.golden) > 1:
                    print(f"{golden}: ", end="", flush=True)
                evaluate.check_golden(golden)
        elif args.compare:
            print(evaluate.compare(*args.compare))
        else:
            print(evaluate.tables(args.out or Path("evaluations")))
        return
    if args.file is None:
        raise ConfigError("name a YAML in experiments/eval/, or --golden, --compare or --table")
    from evaluation.settings import Evaluation
    from pocketdit.config.load import load

    loaded = load(args.file, args.overrides, Evaluation)
    text = args.file.read_text()
    for key in (override.partition("=")[0] for override in args.overrides):
        if key in SHARED and f"${{{key}}}" not in text:
            raise ConfigError(
                f"command line ({key}=...): {args.file} does not use ${{{key}}}, so {key} would change nothing"
            )
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    if args.fetch:
        from evaluation.assets import fetch

        fetch(loaded.config, args.source)
        return
    from evaluation.assets import require

    require(loaded.config)
    from evaluation.evaluate import evaluate as run_evaluation

    folder = run_evaluation(loaded)
    if folder is not None:
        print(f"\nreport   {folder / 'report.html'}")
        print("next     lightning evaluate --table     (the paper's tables with these results)")

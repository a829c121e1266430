"""``lightning sweep``. Nothing heavy is imported before it is needed."""

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pocketdit.errors import ConfigError

if TYPE_CHECKING:
    from sweeps.settings import Sweep


def add_sweep(verbs: argparse._SubParsersAction) -> None:
    sweep = verbs.add_parser(
        "sweep",
        help="search over an experiment's settings",
        description="Search over an experiment's settings; the same command goes on with a study that was stopped.",
    )
    sweep.add_argument("file", type=Path, help="a YAML in sweeps/")
    sweep.add_argument("overrides", nargs="*", metavar="key=value", help="for example budget.trials=24")
    sweep.add_argument("--workers", type=int, metavar="N", help="so many trials at once (default: the file's, or 1)")
    sweep.add_argument("--launcher", choices=("processes", "ray", "slurm"), help="where workers run")
    sweep.add_argument("--address", help="of a Ray cluster, with --launcher ray")
    sweep.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    sweep.add_argument("--check", action="store_true", help="say whether the file is in order, then exit")
    sweep.add_argument("--dashboard", action="store_true", help="serve optuna-dashboard on the study, on this machine")
    sweep.add_argument("--winner", nargs="?", const=-1, type=int, metavar="TRIAL",
                       help="write the best trial, or TRIAL, as an experiment")  # fmt: skip
    sweep.add_argument("--to", type=Path, metavar="FILE",
                       help="with --winner: the experiment's YAML (default experiments/NAME_winner.yaml)")  # fmt: skip
    sweep.add_argument("--plots", action="store_true", help="draw the study's pictures as it stands, then exit")
    sweep.set_defaults(call=call_sweep)


def call_sweep(args: argparse.Namespace) -> None:
    if args.to and args.winner is None:
        raise ConfigError("--to FILE goes with --winner")
    if args.address and args.launcher != "ray":
        raise ConfigError("--address goes with --launcher ray")
    from pocketdit.config.load import load
    from sweeps.settings import Sweep

    loaded = load(args.file, [*_options(args), *args.overrides], Sweep)
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    if args.dashboard or args.plots or args.winner is not None:
        look(args, loaded.config)
        return
    from pocketdit.running.requirements import quiet_warnings, require_data, require_parents
    from sweeps.check import check

    base = check(loaded)
    if args.check:
        from sweeps.engine import try_figures

        try_figures(loaded.config, base.config)
        print(f"{args.file}: in order")
        return
    require_data(base.config)
    require_parents(base.config)
    quiet_warnings()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: workers hand back what they have
    from sweeps.engine import run

    run(loaded)


def look(args: argparse.Namespace, sweep: "Sweep") -> None:
    """What is asked of a study that was begun before."""
    from sweeps import plan
    from sweeps.check import require_same_study
    from sweeps.looking.read import open_study

    require_same_study(sweep.folder / "sweep.yaml", sweep)
    store = open_study(sweep, args.file)
    if not args.dashboard and not plan.finished(sweep, store.records(longer=False), store.records(longer=True)):
        print(f"{sweep.sweep} is not finished: this is how it stands", file=sys.stderr)
    if args.dashboard:
        from sweeps.looking.dashboard import dashboard

        dashboard(store.storage)
    elif args.plots:
        from sweeps.looking.report import publish, report

        files = report(sweep, store)
        print("\n".join(f"picture  {file}" for file in files) or f"{sweep.sweep} has no finished trial yet")
        publish(sweep, files)
    else:
        from sweeps.looking.winner import write_winner

        to = args.to or Path("experiments") / f"{sweep.sweep}_winner.yaml"
        trial = write_winner(args.file, sweep, store, None if args.winner < 0 else args.winner, to)
        print(f"{to}: trial {trial.number}\nnext     lightning run {to}")


def _options(args: argparse.Namespace) -> list[str]:
    words = [f"workers={args.workers}"] if args.workers is not None else []
    if args.launcher:
        words.append(f"launcher.kind={args.launcher}")
    return [*words, f"launcher.address={args.address}"] if args.address else words

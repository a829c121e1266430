"""Implements ``lightning sweep``. Modules that are slow to import are imported inside functions."""

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pocketdit.errors import ConfigError

if TYPE_CHECKING:
    from sweeps.settings import Sweep

BEST = -1


def add_sweep(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``sweep`` subcommand to the parser."""
    sweep = subparsers.add_parser(
        "sweep",
        help="search over the settings of an experiment",
        description="Search over the settings of an experiment. "
        "To resume an interrupted study, run the same command again.",
    )
    sweep.add_argument("file", type=Path, help="YAML file in sweeps/")
    sweep.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as budget.trials=24")
    sweep.add_argument(
        "--workers", type=int, metavar="N", help="number of concurrent trials (default: the value in the file)"
    )
    sweep.add_argument("--launcher", choices=("processes", "ray", "slurm"), help="where to run the workers")
    sweep.add_argument("--address", help="with --launcher ray: address of the cluster")
    sweep.add_argument("--print-config", action="store_true", help="print the resolved configuration, then exit")
    sweep.add_argument("--check", action="store_true", help="check the file, then exit")
    sweep.add_argument("--dashboard", action="store_true", help="serve the Optuna dashboard of the study on localhost")
    sweep.add_argument("--winner", nargs="?", const=BEST, type=int, metavar="TRIAL",
                       help="write the best trial (or TRIAL) as the YAML file of an experiment, then exit")  # fmt: skip
    sweep.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="with --winner: YAML file of the experiment (default: experiments/NAME_winner.yaml)",
    )
    sweep.add_argument("--plots", action="store_true", help="plot the study in its current state, then exit")
    sweep.set_defaults(call=call_sweep)


def call_sweep(args: argparse.Namespace) -> None:
    """Run, check or inspect a study."""
    if args.to and args.winner is None:
        raise ConfigError("--to can only be used with --winner")
    if args.address and args.launcher != "ray":
        raise ConfigError("--address can only be used with --launcher ray")
    from sweeps.checks import load_sweep

    loaded = load_sweep(args.file, [*_option_overrides(args), *args.overrides])
    if args.print_config:
        print(loaded.to_yaml(), end="")
        return
    if args.dashboard or args.plots or args.winner is not None:
        inspect_study(args, loaded.config)
        return
    from sweeps.checks import check, check_computed

    base = check(loaded)
    from pocketdit.running.data import require_available
    from pocketdit.running.requirements import quiet_warnings, require_parents

    require_available(base.config)
    require_parents(base)
    if args.check:
        from sweeps.engine.launchers import require_launcher
        from sweeps.storage.connection import require_driver

        require_launcher(loaded.config)
        require_driver(loaded.config)
        check_computed(loaded.config, base.config)
        print(f"{args.file}: no problems found")
        return
    quiet_warnings()
    # On SIGTERM, as on Ctrl-C, workers put their trials back in the queue.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from sweeps.engine.study import run
    from sweeps.plots.report import write_plots

    run(loaded, write_plots)


def inspect_study(args: argparse.Namespace, sweep: "Sweep") -> None:
    """Serve the dashboard of a study, plot it, or write its winner. The study must have been started before."""
    from sweeps.checks import require_same_study
    from sweeps.engine.trial_queue import is_complete
    from sweeps.plots.read import open_study

    require_same_study(sweep.folder / "sweep.yaml", sweep)
    store = open_study(sweep, args.file)
    if args.dashboard:
        from sweeps.plots.dashboard import serve_dashboard

        serve_dashboard(store.storage)
        return
    if not is_complete(sweep, store.records(promoted=False), store.records(promoted=True)):
        print(f"{sweep.sweep} is not complete yet; this is its current state", file=sys.stderr)
    if args.plots:
        from sweeps.plots.report import publish_plots, write_plots

        files = write_plots(sweep, store)
        print("\n".join(f"plot   {file}" for file in files) or f"{sweep.sweep} does not have a complete trial yet")
        publish_plots(sweep, files)
    else:
        from pocketdit.config.shell import command_line, operand
        from sweeps.winner.winner import write_winner

        to = args.to or Path("experiments") / f"{sweep.sweep}_winner.yaml"
        trial = write_winner(args.file, sweep, store, None if args.winner == BEST else args.winner, to)
        print(f"{to}: trial {trial.number}\nnext   {command_line('run', operand(to))}")


def _option_overrides(args: argparse.Namespace) -> list[str]:
    overrides = [f"workers={args.workers}"] if args.workers is not None else []
    if args.launcher:
        overrides.append(f"launcher.kind={args.launcher}")
    return [*overrides, f"launcher.address={args.address}"] if args.address else overrides

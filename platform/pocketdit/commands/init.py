"""``lightning init``: a folder for the user's own experiments."""

import argparse
import shlex
from pathlib import Path

SETTINGS = """\
# Settings of this project. PocketDiT reads this file from the folder in which you start a command.

[trust]
# Your modules whose classes YAML files may name, for example ["my_project"]. Their code runs with your rights.
modules = []
# Tracking servers to which `lightning sync` and `--resume` may send runs that somebody else started.
trackers = []
"""
IGNORED = "/runs/\n/data/\n/evaluations/\n/exports/\n__pycache__/\n"


def add_init(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    init = verbs.add_parser(
        "init",
        help="create a folder with the YAML files of all experiments and sweeps",
        description="Create a folder for your own experiments: the YAML files of all experiments and sweeps, and "
        "pocketdit.toml. Files that already exist are kept.",
    )
    init.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="default: this folder")
    init.set_defaults(call=call_init)


def call_init(args: argparse.Namespace) -> None:
    """Lay down the files, then print the next commands."""
    from pocketdit.files import write_atomically

    files = {"pocketdit.toml": SETTINGS, ".gitignore": IGNORED} | shipped_files()
    kept = [name for name in files if (args.folder / name).exists()]
    for name, text in files.items():
        if name not in kept:
            write_atomically(args.folder / name, text)
    print(f"{len(files) - len(kept)} files written to {args.folder.absolute()}")
    if kept:
        print(f"{len(kept)} files already existed and were kept: {', '.join(kept[:3])}{', ...' if kept[3:] else ''}")
    print("next:")
    if args.folder.resolve() != Path.cwd():
        print(f"  cd {shlex.quote(str(args.folder))}")
    print("  lightning data build scenes data/scenes\n  lightning run experiments/elastic_pretrain.yaml")


def shipped_files() -> dict[str, str]:
    """Return the YAML files of experiments and sweeps by their path in a project.

    A wheel contains the experiments in its package. In a checkout they are in the repository itself.
    """
    import sweeps

    package = Path(__file__).parents[1]
    in_wheel = package / "experiments"
    folders = {
        "experiments": in_wheel if in_wheel.is_dir() else package.parents[1] / "experiments",
        "sweeps": Path(sweeps.__file__).parent,
    }
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path.read_text(encoding="utf-8")
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*.yaml"))
    }

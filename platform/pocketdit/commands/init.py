"""``lightning init``, which creates a folder for the user's own experiments."""

import argparse
import shlex
from pathlib import Path

SETTINGS = """\
# Settings of this project. PocketDiT reads this file from the folder in which you run a command.

[trust]
# Modules whose classes YAML files may name, for example ["my_project"]. Their code runs with your permissions.
modules = []
# Tracking servers to which `lightning sync` and `--resume` may send runs of other people.
trackers = []
"""
IGNORED = "/runs/\n/data/\n/evaluations/\n/exports/\n__pycache__/\n"


def add_init(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``init`` subcommand to the parser."""
    init = subparsers.add_parser(
        "init",
        help="create a folder with the YAML files of all experiments and sweeps",
        description="Create a folder for your own experiments, with the YAML files of all experiments and sweeps and "
        "pocketdit.toml. Existing files are not changed.",
    )
    init.add_argument(
        "folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="folder (default: the current folder)"
    )
    init.set_defaults(call=call_init)


def call_init(args: argparse.Namespace) -> None:
    """Write the files, then print the commands to run next."""
    from pocketdit.config.shell import operand
    from pocketdit.files import write_atomically

    files = {"pocketdit.toml": SETTINGS, ".gitignore": IGNORED} | shipped_files()
    kept = [name for name in files if (args.folder / name).exists()]
    for name, text in files.items():
        if name not in kept:
            write_atomically(args.folder / name, text)
    print(f"{len(files) - len(kept)} files written to {args.folder.absolute()}")
    if kept:
        print(f"existing files that were not changed ({len(kept)}): {', '.join(kept[:3])}{', ...' if kept[3:] else ''}")
    print("next:")
    if args.folder.resolve() != Path.cwd():
        print(f"  {shlex.join(['cd', operand(args.folder)])}")
    print("  lightning data build scenes data/scenes\n  lightning run experiments/elastic_pretrain.yaml")


def shipped_files() -> dict[str, str]:
    """Return the contents of the experiment and sweep files, keyed by their paths in a project.

    In a wheel, the experiments are part of the package. In a checkout, they are in the root of the repository.
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
        for path in sorted([*folder.rglob("*.yaml"), *folder.glob("cluster/*.sbatch"), *folder.glob("cluster/*.sh")])
    }

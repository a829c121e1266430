"""``lightning doctor``, which checks whether the commands would work on this machine and in this folder."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import Literal

from pocketdit.errors import ConfigError, RunError
from pocketdit.memory import available_memory

GIB = 2**30
# Free space in bytes. With less than this, the default pre-training run fails. With less than four times as much,
# larger runs may fail.
NEEDED_DISK, NEEDED_MEMORY = GIB // 2, GIB
# What each extra is needed for.
EXTRAS = {
    "export": "export and verify (Core ML)",
    "coreai": "export and verify (Core AI)",
    "litert": "export (LiteRT)",
    "many": "sweep --dashboard, sweep --launcher, and storage in PostgreSQL",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: What was checked, such as "free disk".
        detail: The result of the check.
        level: "fail" if a command would fail, and "note" if some commands may be slow, fail, or lack a package.
        remedy: Advice on how to solve the problem, or "" if there is no problem.
    """

    subject: str
    detail: str
    level: Literal["ok", "note", "fail"] = "ok"
    remedy: str = ""


def add_doctor(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``doctor`` subcommand to the parser."""
    doctor = subparsers.add_parser(
        "doctor",
        help="check the installation, the machine and this folder",
        description="Check versions, devices, memory, disk space, optional packages and this folder. "
        "The exit status is 1 if a command would fail.",
    )
    doctor.set_defaults(call=call_doctor)


def call_doctor(args: argparse.Namespace) -> None:
    """Run all checks and print their results.

    Raises:
        RunError: At least one check failed.
    """
    from tabulate import tabulate

    findings = [
        *check_packages(),
        *check_extras(),
        *check_devices(),
        *check_space(Path.cwd()),
        *check_commands(),
        *check_folder(Path.cwd()),
    ]
    rows = [[finding.level, finding.subject, finding.detail] for finding in findings]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    remedies = [finding for finding in findings if finding.remedy]
    if remedies:
        print("\nWhat to do:")
        for finding in remedies:
            print(f"  {finding.subject}: {finding.remedy}")
    failures = sum(finding.level == "fail" for finding in findings)
    if failures:
        raise RunError(f"{failures} of {len(findings)} checks failed")
    print("\nNo checks failed.")


def check_packages() -> Iterator[Finding]:
    """Compare the versions of the installed packages with those that PocketDiT was tested with."""
    yield Finding("PocketDiT", f"{version('pocketdit')}, Python {sys.version.split()[0]} in {sys.prefix}")
    wrong = wrong_requirements("")
    if wrong:
        yield Finding("packages", ", ".join(wrong), "fail", "reinstall PocketDiT in a new environment")
    else:
        names = ("torch", "lightning", "mlflow", "optuna", "diffusers", "transformers")
        yield Finding("packages", ", ".join(f"{name} {version(name)}" for name in names))


def wrong_requirements(extra: str) -> list[str]:
    """Return the requirements of an extra that are missing or have an untested version.

    If ``extra`` is "", check the requirements of PocketDiT without extras.
    """
    from packaging.requirements import Requirement

    wrong = []
    for line in requires("pocketdit") or ():
        requirement = Requirement(line)
        marker = requirement.marker
        needed = marker is None or marker.evaluate({"extra": extra})
        if not needed or (extra and (marker is None or marker.evaluate({"extra": ""}))):
            continue  # not a requirement of this extra
        if requirement.name == "pocketdit":  # this extra includes other extras
            wrong += [problem for other in sorted(requirement.extras) for problem in wrong_requirements(other)]
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed} (tested with {requirement.specifier})")
    return wrong


def check_extras() -> Iterator[Finding]:
    """Report which commands require packages that are not installed."""
    for extra, purpose in EXTRAS.items():
        wrong = wrong_requirements(extra)
        if wrong:
            more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
            remedy = f"for {purpose}, run: pip install 'pocketdit[{extra}]'"
            yield Finding(f"extra {extra}", f"{wrong[0]}{more}", "note", remedy)
        else:
            yield Finding(f"extra {extra}", purpose)


def check_devices() -> Iterator[Finding]:
    """Report each GPU, whether the CPU is fast in the default precision, and any GPU that torch cannot use."""
    import torch

    from pocketdit.training.precision import has_bf16_units

    if has_bf16_units("cpu"):
        yield Finding("CPU", f"{torch.get_num_threads()} threads, bf16 units")
    else:
        yield Finding("CPU", f"{torch.get_num_threads()} threads, no bf16 units, so training takes about twice as long")
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        yield Finding(f"GPU {index}", f"{card.name}, {card.total_memory / GIB:.0f} GiB")
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        yield Finding(
            "GPU",
            f"torch {torch.__version__} cannot use the NVIDIA GPU of this machine",
            "fail",
            "install a CUDA build of torch: https://pytorch.org/get-started",
        )


def check_space(folder: Path) -> Iterator[Finding]:
    """Report the free memory and disk space."""
    disk = shutil.disk_usage(folder).free
    yield space_finding("free disk", disk, NEEDED_DISK, "free up some space, or work in another folder")
    memory = available_memory()
    if memory is not None:
        yield space_finding("free memory", memory, NEEDED_MEMORY, "close other programs, or reduce batch_size")
    shared = Path("/dev/shm")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < GIB // 4:
        yield Finding(
            "shared memory",
            f"{size / 2**20:.0f} MiB, so data workers may be killed by a bus error",
            "note",
            "in Docker, use --shm-size 1g; otherwise, set data.init_args.workers=0",
        )


def space_finding(subject: str, free: int, needed: int, remedy: str) -> Finding:
    """Compare the free space with the space that is needed, both in bytes."""
    detail = f"{free / GIB:.1f} GiB"
    if free >= 4 * needed:
        return Finding(subject, detail)
    return Finding(subject, detail, "fail" if free < needed else "note", remedy)


def check_commands() -> Iterator[Finding]:
    """Report whether ``lightning`` runs PocketDiT. The lightning package also installs a command of this name."""
    paths = {entry.name: entry.value for entry in distribution("pocketdit").entry_points}
    script = Path(sys.executable).with_name("lightning")
    if script.is_file() and paths["lightning"].partition(":")[0] not in script.read_text(errors="replace"):
        yield Finding(
            "command",
            f"{script} is Lightning's own command line, not PocketDiT",
            "fail",
            "use the command pocketdit, which runs the same program, or reinstall PocketDiT",
        )
        return
    first, activate = shutil.which("lightning"), shlex.join(["source", str(script.with_name("activate"))])
    if first and script.is_file() and not Path(first).samefile(script):
        yield Finding("command", f"lightning runs {first}", "note", f"activate this environment: {activate}")
    else:
        yield Finding("command", f"lightning and pocketdit in {script.parent}")


def check_folder(folder: Path) -> Iterator[Finding]:
    """Report whether a folder is writable and contains experiments, and which modules it trusts."""
    from pocketdit.config.project import FILE_NAME, read_project

    if not os.access(folder, os.W_OK):
        yield Finding(
            "folder", f"{folder} is not writable", "fail", "create a folder of your own with: lightning init DIR"
        )
        return
    if not (folder / "experiments").is_dir():
        yield Finding("folder", f"{folder} does not contain experiments/", "note", "create it with: lightning init")
    else:
        yield Finding("folder", str(folder))
    try:
        modules = read_project().modules
    except ConfigError as error:
        yield Finding(FILE_NAME, str(error).removeprefix(f"{FILE_NAME}: "), "fail", "correct the file")
    else:
        if (folder / FILE_NAME).is_file():
            yield Finding(FILE_NAME, f"trusts the modules {', '.join(modules)}" if modules else "trusts no modules")

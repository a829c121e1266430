"""``lightning doctor``: whether this machine and this folder can do what the commands need."""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import Literal

from pocketdit.errors import ConfigError, RunError

GIB = 2**30
# Below these sizes, the default pre-training run fails; below four times these sizes, larger runs will.
NEEDED_DISK, NEEDED_MEMORY = GIB // 2, GIB
# The commands that need each extra.
EXTRAS = {
    "export": "export, verify (Core ML)",
    "litert": "export (LiteRT)",
    "many": "sweep --dashboard, sweep --launcher, storage in PostgreSQL",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: What was checked.
        detail: What was found.
        level: "fail" if a command would fail; "note" if one would be slow or is not installed.
        remedy: What to do about it.
    """

    subject: str
    detail: str
    level: Literal["ok", "note", "fail"] = "ok"
    remedy: str = ""


def add_doctor(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    doctor = verbs.add_parser(
        "doctor",
        help="check the installation, the machine and this folder",
        description="Check versions, devices, memory, disk, optional packages and this folder. "
        "The exit status is 1 if a command would fail.",
    )
    doctor.set_defaults(call=call_doctor)


def call_doctor(args: argparse.Namespace) -> None:
    """Print all findings.

    Raises:
        RunError: Something would fail.
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
    print("\nEverything that PocketDiT needs is here.")


def check_packages() -> Iterator[Finding]:
    """Compare the installed packages with the versions that PocketDiT was tested with."""
    yield Finding("PocketDiT", f"{version('pocketdit')}, Python {sys.version.split()[0]} in {sys.prefix}")
    wrong = wrong_requirements("")
    if wrong:
        yield Finding("packages", ", ".join(wrong), "fail", "reinstall PocketDiT in a new environment")
    else:
        shown = ("torch", "lightning", "mlflow", "optuna", "diffusers", "transformers")
        yield Finding("packages", ", ".join(f"{name} {version(name)}" for name in shown))


def wrong_requirements(extra: str) -> list[str]:
    """Return the requirements of an extra, or with "" of PocketDiT itself, that are missing or out of range."""
    from packaging.requirements import Requirement

    wrong = []
    for line in requires("pocketdit") or ():
        requirement = Requirement(line)
        marker = requirement.marker
        needed = marker is None or marker.evaluate({"extra": extra})
        if not needed or (extra and (marker is None or marker.evaluate({"extra": ""}))):
            continue  # of another extra, or of PocketDiT itself
        if requirement.name == "pocketdit":  # an extra that contains others
            wrong += [problem for other in sorted(requirement.extras) for problem in wrong_requirements(other)]
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, tested with {requirement.specifier}")
    return wrong


def check_extras() -> Iterator[Finding]:
    """Report which commands need packages that are not installed."""
    for extra, purpose in EXTRAS.items():
        wrong = wrong_requirements(extra)
        if wrong:
            more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
            remedy = f"to use {purpose}: pip install 'pocketdit[{extra}]'"
            yield Finding(f"extra {extra}", f"{wrong[0]}{more}", "note", remedy)
        else:
            yield Finding(f"extra {extra}", purpose)


def check_devices() -> Iterator[Finding]:
    """Report the processors and graphics cards, and how fast the default precision is on them."""
    import torch

    from pocketdit.training.precision import has_bf16_units

    if has_bf16_units("cpu"):
        yield Finding("CPU", f"{torch.get_num_threads()} threads, bf16 units")
    else:
        yield Finding("CPU", f"{torch.get_num_threads()} threads, no bf16 units: training on it takes twice as long")
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        yield Finding(f"GPU {index}", f"{card.name}, {card.total_memory / GIB:.0f} GiB")
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        yield Finding(
            "GPU",
            f"torch {torch.__version__} cannot use the NVIDIA GPU of this machine",
            "fail",
            "install the CUDA build of torch: https://pytorch.org/get-started",
        )


def check_space(folder: Path) -> Iterator[Finding]:
    """Report free memory and disk space."""
    disk = shutil.disk_usage(folder).free
    yield space_finding("free disk", disk, NEEDED_DISK, "free some space, or work in another folder")
    memory = available_memory()
    if memory is not None:
        yield space_finding("free memory", memory, NEEDED_MEMORY, "close other programs, or reduce batch_size")
    shared = Path("/dev/shm")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < GIB // 4:
        yield Finding(
            "shared memory",
            f"{size / 2**20:.0f} MiB: data workers may be killed by a bus error",
            "note",
            "in Docker, use --shm-size 1g; or set data.init_args.workers=0",
        )


def space_finding(subject: str, free: int, needed: int, remedy: str) -> Finding:
    """Judge a free amount of bytes."""
    detail = f"{free / GIB:.1f} GiB"
    if free >= 4 * needed:
        return Finding(subject, detail)
    return Finding(subject, detail, "fail" if free < needed else "note", remedy)


def available_memory() -> int | None:
    """Return the bytes of memory that a new process can use, or None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    group = Path("/sys/fs/cgroup")  # the limit of a container
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def check_commands() -> Iterator[Finding]:
    """Report whether ``lightning`` is this program. The package lightning installs a command of the same name."""
    paths = {entry.name: entry.value for entry in distribution("pocketdit").entry_points}
    script = Path(sys.executable).with_name("lightning")
    if script.is_file() and paths["lightning"].partition(":")[0] not in script.read_text(errors="replace"):
        yield Finding(
            "command",
            f"{script} is Lightning's own command line, not PocketDiT",
            "fail",
            "use the command pocketdit, which is the same program, or reinstall PocketDiT",
        )
        return
    first = shutil.which("lightning")
    if first and script.is_file() and not Path(first).samefile(script):
        yield Finding(
            "command", f"lightning runs {first}", "note", f"activate this environment: source {script.parent}/activate"
        )
    else:
        yield Finding("command", f"lightning and pocketdit in {script.parent}")


def check_folder(folder: Path) -> Iterator[Finding]:
    """Report whether commands can write to a folder, whether it has experiments, and what it trusts."""
    from pocketdit.config.project import FILE_NAME, read_project

    if not os.access(folder, os.W_OK):
        yield Finding("folder", f"{folder} is not writable", "fail", "work in a folder of your own: lightning init DIR")
        return
    if not (folder / "experiments").is_dir():
        yield Finding("folder", f"{folder} has no experiments/", "note", "lightning init")
    else:
        yield Finding("folder", str(folder))
    try:
        modules = read_project().modules
    except ConfigError as error:
        yield Finding(FILE_NAME, str(error).removeprefix(f"{FILE_NAME}: "), "fail", "correct the file")
    else:
        if (folder / FILE_NAME).is_file():
            yield Finding(FILE_NAME, f"trusts the modules {', '.join(modules)}" if modules else "trusts no modules")

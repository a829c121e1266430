"""``lightning export`` and ``lightning verify``."""

import json
import math
import resource
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketdit.config.errors import InvalidValue
from pocketdit.config.override import parse
from pocketdit.config.typed import convert as typed
from pocketdit.errors import ConfigError, RunError
from pocketdit.export import census
from pocketdit.export.convert import convert
from pocketdit.export.folder import MANIFEST, written_whole
from pocketdit.export.graphs import DECODER, TEXT, TRANSFORMER, build_graphs
from pocketdit.export.manifest import manifest
from pocketdit.export.package import Package
from pocketdit.export.report import broken, table
from pocketdit.export.same_weights import require_same_weights
from pocketdit.export.settings import Export
from pocketdit.export.subject import Subject, load_subject
from pocketdit.export.verify import Check, verify
from pocketdit.mobile.weights import mobile_weights

CENSUS, LATENCY = "census.json", "latency.jsonl"


def export(settings: Export) -> Path:
    """Write the bundle ``out/<name>/`` and print its census and verification.

    Raises ``ConfigError`` for settings that the run's network does not take, ``RunError`` where a package cannot be
    converted, differs from the training form (no bundle is left then) or exceeds its budget (the bundle is left).
    """
    subject = load_subject(settings)
    folder = settings.out / subject.name
    graphs = build_graphs(subject, settings)
    with written_whole(folder) as temporary:
        for name, graph in graphs.items():
            started = time.monotonic()
            try:
                convert(graph, temporary / f"{name}.mlpackage", settings.precision, settings.target)
            except RunError as error:
                if name != DECODER:
                    raise
                raise RunError(f"{error}; give a tiny decoder: decoder=RUN") from error
            print(f"{name}: converted in {time.monotonic() - started:.1f} s")
        del graphs, graph  # the converter's copies of the weights with them
        packages = open_packages(temporary)
        censuses = {name: census.take(package) for name, package in packages.items()}
        (temporary / CENSUS).write_text(censuses[TRANSFORMER].merged().to_json())
        print(f"\n{table(censuses[TRANSFORMER])}\n")
        checks = check(packages, subject, settings) if settings.verify else []
        content = manifest(settings, subject, packages, censuses, checks)
        (temporary / MANIFEST).write_text(json.dumps(content, indent=2, default=str) + "\n")
        if (folder / LATENCY).is_file():  # measured on a phone, perhaps; each line says of which package
            shutil.copy(folder / LATENCY, temporary)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.2f} GB")
    require_budget(censuses[TRANSFORMER], settings)
    return folder


def verify_bundle(folder: Path, overrides: list[str]) -> None:
    """Compare a bundle with the training form that it was made from; ``overrides`` of its settings, such as run=RUN.

    Raises ``RunError`` where they differ or the budget is exceeded.
    """
    settings = bundle_settings(folder, overrides)
    content = json.loads((folder / MANIFEST).read_text())
    packages = open_packages(folder)
    if missing := [name for name in content["packages"] if name not in packages]:
        raise RunError(f"{folder} lacks {', '.join(f'{name}.mlpackage' for name in missing)}; export it again")
    taken = census.take(packages[TRANSFORMER])
    print(f"{table(taken)}\n")
    subject = load_subject(settings)
    if subject.run == content["weights"]["run"] and subject.weights != content["weights"]["sha256"]:
        raise RunError(f"the weights of {subject.run} have changed since {folder} was exported; export it again")
    check(packages, subject, settings)
    require_budget(taken, settings)


def bundle_settings(folder: Path, overrides: list[str]) -> Export:
    """What a bundle was made with, as its manifest says, with changes."""
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        values, _, _ = content["settings"], content["packages"], content["weights"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder} is no exported bundle: no readable {MANIFEST}") from error
    try:
        for text in overrides:
            parse(text).apply(values)
        return typed(values, Export, "")
    except InvalidValue as error:
        raise ConfigError(str(error)) from None


def open_packages(folder: Path) -> dict[str, Package]:
    """By name."""
    return {path.stem: Package(path) for path in sorted(folder.glob("*.mlpackage"))}


def check(packages: Mapping[str, Package], subject: Subject, settings: Export) -> list[Check]:
    """Print what the verification finds. ``RunError`` where it fails."""
    weights = mobile_weights(subject.network.state_dict(), subject.network.spec)
    same = require_same_weights((packages[TRANSFORMER], packages[TEXT]), weights, settings)
    print(f"{same} matrices equal the network's bit for bit in {settings.precision}")
    checks = []
    for found in verify(packages, subject, settings):
        print(found.line(), flush=True)
        checks.append(found)
    if failed := [c for c in checks if not c.passes(settings)]:
        worst = min(failed, key=lambda c: c.snr if not math.isnan(c.snr) else -math.inf)
        if settings.precision == "float32":
            limit = f"max_error {settings.max_error:g}, found {worst.max_error:.3g}"
        else:
            limit = f"min_snr {settings.min_snr:g} dB, found {worst.snr:.1f}"
        raise RunError(f"the packages differ from the network ({worst.what}: {limit})")
    return checks


def require_budget(taken: census.Census, settings: Export) -> None:
    """``RunError`` with every limit that is exceeded."""
    if exceeded := broken(taken, settings.budget):
        raise RunError("; ".join(exceeded))

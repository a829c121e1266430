"""Export a network to Core ML, as a bundle of packages with a manifest and a census."""

import json
import resource
import shutil
import time
from pathlib import Path

from pocketdit.artifacts.notice import copy_notice
from pocketdit.errors import RunError
from pocketdit.export.common.bundle_files import CENSUS, DECODER, LATENCY, MANIFEST, TRANSFORMER
from pocketdit.export.common.bundle_folder import replace_bundle
from pocketdit.export.common.census_report import census_table, require_budget
from pocketdit.export.common.decoder import load_with_decoder
from pocketdit.export.common.graphs import build_graphs, make_example
from pocketdit.export.common.subject import Subject
from pocketdit.export.coreml.bundle import open_packages
from pocketdit.export.coreml.census import take_census
from pocketdit.export.coreml.convert import convert
from pocketdit.export.coreml.manifest import build_manifest
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.coreml.verify import require_equal


def export_coreml(settings: CoreMLExport) -> Path:
    """Write a bundle to a folder in ``settings.out``, and print its census and the results of its verification.

    Returns:
        Path of the bundle's folder.

    Raises:
        ConfigError: The network does not support the settings.
        RunError: A graph cannot be converted or the outputs differ from PyTorch, in which case no bundle is written; or
            the graph exceeds its budget, in which case the bundle is kept.
    """
    subject = load_with_decoder(settings, settings.decoder, keep_lora=settings.lora == "kept")
    folder = settings.out / subject.name
    with replace_bundle(folder) as temporary:
        convert_all(subject, settings, temporary)
        packages = open_packages(temporary)
        censuses = {name: take_census(package) for name, package in packages.items()}
        (temporary / CENSUS).write_text(censuses[TRANSFORMER].merged().to_json())
        print(f"\n{census_table(censuses[TRANSFORMER])}\n")
        comparisons = require_equal(packages, subject, settings) if settings.verify else []
        content = build_manifest(settings, subject, packages, censuses, comparisons)
        (temporary / MANIFEST).write_text(json.dumps(content, indent=2, default=str) + "\n")
        copy_notice(subject.notice, temporary)
        if (folder / LATENCY).is_file():  # records contain the hash of their package, so they remain valid
            shutil.copy(folder / LATENCY, temporary)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.2f} GB")
    require_budget(censuses[TRANSFORMER], settings.budget)
    return folder


def convert_all(subject: Subject, settings: CoreMLExport, folder: Path) -> None:
    """Convert each graph to a package in ``folder``. The memory of the graphs is freed when this function returns."""
    example = make_example(subject, settings.batch, settings.times[0], settings.seed)
    for name, graph in build_graphs(subject, example, settings.blockwise, settings.query_chunk).items():
        started = time.monotonic()
        try:
            convert(graph, folder / f"{name}.mlpackage", settings.precision, settings.target)
        except RunError as error:
            if name != DECODER:
                raise
            raise RunError(f"{error}; export a tiny decoder instead with: decoder=RUN") from error
        print(f"{name}: converted in {time.monotonic() - started:.1f} s")

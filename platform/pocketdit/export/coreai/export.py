"""Export a network to Core AI, as a bundle of packages with a manifest and a census."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from pocketdit.artifacts.notice import copy_notice
from pocketdit.errors import RunError
from pocketdit.export.common.bundle_files import CENSUS, DECODER, LATENCY, TRANSFORMER
from pocketdit.export.common.bundle_folder import replace_bundle
from pocketdit.export.common.census_report import census_table, require_budget
from pocketdit.export.common.decoder import load_with_decoder
from pocketdit.export.common.manifest import build_manifest, write_manifest
from pocketdit.export.common.subject import Subject
from pocketdit.export.common.text_graphs import ExportedText, load_texts, text_graphs
from pocketdit.export.coreai.bundle import open_packages
from pocketdit.export.coreai.census import take_census
from pocketdit.export.coreai.convert import convert
from pocketdit.export.coreai.graphs import coreai_graphs
from pocketdit.export.coreai.manifest import package_entry
from pocketdit.export.coreai.settings import CoreAIExport
from pocketdit.export.coreai.verify import require_equal
from pocketdit.memory import peak_bytes


def export_coreai(settings: CoreAIExport) -> Path:
    """Write a bundle to a folder in ``settings.out``, and print its census and the results of its verification.

    Returns:
        Path of the bundle's folder.

    Raises:
        ConfigError: The network does not support the settings.
        RunError: A graph cannot be converted or the outputs differ from PyTorch, in which case no bundle is written; or
            the graph exceeds its budget, in which case the bundle is kept.
    """
    subject = load_with_decoder(settings)
    folder = settings.out / subject.name
    with replace_bundle(folder) as temporary:
        texts = load_texts(settings, subject)
        convert_all(subject, texts, settings, temporary)
        packages = open_packages(temporary)
        censuses = {name: take_census(package) for name, package in packages.items()}
        (temporary / CENSUS).write_text(censuses[TRANSFORMER].merged().to_json())
        print(f"\n{census_table(censuses[TRANSFORMER])}\n")
        comparisons = require_equal(packages, subject, texts, settings) if settings.verify else []
        entries = {name: package_entry(packages[name], censuses[name], settings) for name in packages}
        libraries = ("coreai-core", "coreai-torch")
        content = build_manifest("coreai", settings, subject, entries, texts, comparisons, libraries)
        copy_notice(subject.notice, temporary)
        write_manifest(temporary, content)
        if (folder / LATENCY).is_file():  # each record contains its package's hash, which shows if it is outdated
            shutil.copy(folder / LATENCY, temporary)
    print(f"peak memory {peak_bytes() / 1e9:.2f} GB")
    require_budget(censuses[TRANSFORMER], settings.budget)
    return folder


def convert_all(subject: Subject, texts: Sequence[ExportedText | None], settings: CoreAIExport, folder: Path) -> None:
    """Convert each graph to a package in ``folder``, and write the tokenizers' files.

    The memory of the graphs is freed when this function returns.
    """
    for text in texts:
        if text is not None:
            text.write_files(folder)
    for name, graph in (text_graphs(texts) | coreai_graphs(subject, settings)).items():
        started = time.monotonic()
        try:
            convert(graph, folder / f"{name}.aimodel", settings.precision)
        except RunError as error:
            if name != DECODER:
                raise
            raise RunError(f"{error}; export a tiny decoder instead with: decoder=RUN") from error
        print(f"{name}: converted in {time.monotonic() - started:.1f} s")

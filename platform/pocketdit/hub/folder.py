"""Writes the folder that diffusers loads and that is uploaded to the Hub.

README.md, samples.png, NOTICE.txt      model card, its images, and the attribution that the data requires
model_index.json, scheduler/            the pipeline
transformer/                            the weights as safetensors, and the specification of the network
text_encoder/, tokenizer/, vae/, ...    the encoders, except those that are loaded from other repositories
decoder/                                a tiny decoder
pipeline.py                             the pipeline's code, for diffusers' trust_remote_code
run/, decoder_run/, pocketdit.json      the files that only lightning pull needs
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketdit.artifacts.notice import copy_notice, join_notices, read_notice
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.config.experiment import DecoderExperiment, Experiment
from pocketdit.config.load import Loaded, load
from pocketdit.errors import ConfigError
from pocketdit.hub.components import encoders_of, pipeline_of
from pocketdit.hub.remote_code import FILE, pipeline_code
from pocketdit.hub.run_files import (
    DECODER_RUN,
    MANIFEST,
    RUN,
    Manifest,
    copy_small_files,
    describe_files,
    published_config,
)
from pocketdit.links import require_inside

CARD, GRID, INDEX = "README.md", "samples.png", "model_index.json"
# Maximum size of a weights file. It is so large that the weights are always a single file, as `lightning pull` expects.
_SHARD = "1000GB"


@dataclass(frozen=True)
class Publication:
    """A run, and the options for publishing it.

    Attributes:
        folder: The run folder.
        experiment: Configuration of the run.
        width: The only width to include, or None to include all widths. `lightning pull` requires all widths.
        decoder: The run whose tiny decoder is included, if any.
        copy_encoders: Whether to copy encoders from the Hub instead of referring to them.
        version: Version of PocketDiT.
    """

    folder: RunFolder
    experiment: Loaded[Experiment]
    width: float | None
    decoder: RunFolder | None
    copy_encoders: bool
    version: str


def require_new(folder: Path) -> None:
    """Check that a folder does not exist or is empty.

    Raises:
        ConfigError: The folder contains files, or is not a folder.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"--to {folder}: already exists; choose a folder that does not exist, or delete it")


def write_folder(publication: Publication, target: Path, card: Callable[[Path], str]) -> None:
    """Write the published folder under a temporary name, and rename it when it is complete.

    Args:
        publication: The run, and the options for publishing it.
        target: The folder, which must not exist or must be empty.
        card: Function that receives the incomplete folder and returns the model card.

    Raises:
        ConfigError: The run cannot be published as a pipeline.
        RunError: Weights are missing or damaged.
        OSError: The folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        copies = _write(publication, temporary)
        (temporary / CARD).write_text(card(temporary), encoding="utf-8")
        if publication.width is None:
            files = describe_files(temporary)
            manifest = Manifest(publication.folder.name, copies, publication.decoder is not None, files)
            (temporary / MANIFEST).write_text(manifest.to_json(publication.version), encoding="utf-8")
        with suppress(FileNotFoundError):
            target.rmdir()  # the folder is empty
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(publication: Publication, target: Path) -> dict[str, list[str]]:
    """Write everything except the model card and the manifest.

    Returns:
        For each encoder whose files are copied, its key and the names of its folders.
    """
    folder, experiment = publication.folder, publication.experiment.config
    encoders = encoders_of(experiment, publication.copy_encoders)
    copies = {encoder.key: list(encoder.components) for encoder in encoders if encoder.is_copied_from_files}
    config = published_config(publication.experiment, copies)
    pipeline = pipeline_of(folder, experiment, encoders, publication.width, publication.decoder)
    pipeline.save_pretrained(target, max_shard_size=_SHARD)
    references = {name: part for encoder in encoders for name, part in encoder.references.items()}
    _complete_index(target / INDEX, references)
    (target / FILE).write_text(pipeline_code(publication.version), encoding="utf-8")
    notices = [read_notice(folder)]
    if publication.decoder is not None:
        notices.append(read_notice(publication.decoder))
    copy_notice(join_notices(*notices), target)
    if grids := sorted(folder.samples.glob("*.png")):
        require_inside(grids[-1], folder.path)
        shutil.copyfile(grids[-1], target / GRID)
    if publication.width is None:
        _write_runs(publication, config, copies, target)
    return copies


def _write_runs(publication: Publication, config: str, copies: dict[str, list[str]], target: Path) -> None:
    """Write the files from which ``lightning pull`` restores the run and the run of its tiny decoder."""
    folder = publication.folder
    (target / RUN).mkdir()
    (target / RUN / folder.config.name).write_text(config, encoding="utf-8")
    copy_small_files(folder, target / RUN)
    if publication.decoder is not None:
        (target / DECODER_RUN).mkdir()
        loaded = load(publication.decoder.config, [], DecoderExperiment)
        own = {key: names for key, names in copies.items() if key == "autoencoder"}
        (target / DECODER_RUN / folder.config.name).write_text(published_config(loaded, own), encoding="utf-8")
        copy_small_files(publication.decoder, target / DECODER_RUN)


def _complete_index(path: Path, references: dict[str, dict[str, Any]]) -> None:
    """Add the references, and the file that contains the pipeline's code, to ``model_index.json``."""
    index = json.loads(path.read_text())
    index["_class_name"] = [Path(FILE).stem, index["_class_name"]]
    index["references"] = references
    index.pop("_name_or_path", None)
    path.write_text(json.dumps(index, indent=2) + "\n")

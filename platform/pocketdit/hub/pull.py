"""Restores a published run from the Hub.

The repository may belong to someone else. Only weights in the safetensors format and small text files are downloaded,
and nothing in them is executed: the configuration may only name trusted classes (see ``config/trust.py``) and may not
refer to environment variables.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from pocketdit.artifacts.decoder import load_decoder
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.notice import NOTICE
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.artifacts.weights import save_weights
from pocketdit.config.experiment import DecoderExperiment, Experiment, kind_of
from pocketdit.config.load import Loaded, load
from pocketdit.errors import ConfigError, RunError
from pocketdit.files import sha256_of, write_atomically
from pocketdit.hub.connection import explain_hub_errors, hub_api
from pocketdit.hub.run_files import (
    DECODER_RUN,
    MANIFEST,
    RUN,
    SMALL_FILES,
    WEIGHTS,
    Manifest,
    encoder_at,
    read_manifest,
)
from pocketdit.pipelines.transformer import NETWORK_PREFIX

RECORD = "hub.json"
ENCODERS = "encoders"
DECODER_SUFFIX = ".decoder"
_CONFIG = "config.yaml"
_DECODER_PREFIX = "decoder."
_ENCODER_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja")
_MAX_SMALL = 64 * 1024 * 1024  # bytes
_INTERPOLATION = re.compile(r"(?<!\\)\$\{")
_CONSEQUENCE = "run the command again to resume"


def pull(repository: str, runs: Path, revision: str | None) -> list[RunFolder]:
    """Download a run to the folder USER/NAME in ``runs``, so that it has the same name as on the Hub.

    Args:
        repository: Name of the repository, USER/NAME.
        runs: Folder of all runs.
        revision: Branch, tag or commit on the Hub.

    Returns:
        The folder of the run and, if it was published with a tiny decoder, the folder of the decoder's run.

    Raises:
        ConfigError: The folder already exists, or the configuration names a class that is not trusted.
        RunError: A request failed, the repository does not contain a run, or a file is damaged or unsafe.
    """
    target = runs / repository
    api = hub_api()
    with explain_hub_errors(repository, _CONSEQUENCE):
        info = api.model_info(repository, revision=revision, files_metadata=True)
    targets = [target, target.with_name(target.name + DECODER_SUFFIX)]
    if target.exists():
        require_same_commit(target, repository, str(info.sha))
        return [RunFolder(path) for path in targets if path.exists()]
    partial = target.with_name(f".{target.name}.partial")
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    if MANIFEST not in sizes:
        raise RunError(f"{repository}: contains no {MANIFEST}, so it was not published with `lightning publish`")

    def download(name: str) -> Path:
        with explain_hub_errors(repository, _CONSEQUENCE):
            return Path(api.hf_hub_download(repository, name, revision=info.sha, local_dir=partial))

    require_small(sizes, MANIFEST, repository)
    manifest = read_manifest(download(MANIFEST).read_text(encoding="utf-8"), repository)
    folders = [RUN, DECODER_RUN] if manifest.has_decoder else [RUN]
    for name in needed_files(manifest):
        require_listed(name, manifest, sizes, repository)
    for folder in folders:  # checked before anything large is downloaded
        path = download(f"{folder}/{_CONFIG}")
        require_digest(path, f"{folder}/{_CONFIG}", manifest, repository)
        require_safe_config(path, repository)
    for name in needed_files(manifest):
        require_digest(download(name), name, manifest, repository)
    restored = [restore(partial, folder, manifest, path) for folder, path in zip(folders, targets, strict=False)]
    for temporary in restored:
        write_atomically(temporary / RECORD, json.dumps({"repository": repository, "commit": info.sha}, indent=1))
    for temporary, path in reversed(list(zip(restored, targets, strict=False))):  # the run itself appears last
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    shutil.rmtree(partial)
    return [RunFolder(path) for path in targets[: len(restored)]]


def require_same_commit(target: Path, repository: str, commit: str) -> None:
    """Check that an existing folder was pulled from the same commit of the same repository.

    Raises:
        ConfigError: The folder contains something else.
    """
    try:
        record = json.loads((target / RECORD).read_text())
    except (OSError, ValueError):
        record = None
    if record == {"repository": repository, "commit": commit}:
        return
    what = "was pulled from another commit" if isinstance(record, dict) else "was not pulled from the Hub"
    raise ConfigError(f"{target}: already exists and {what}; rename or delete it first")


def needed_files(manifest: Manifest) -> list[str]:
    """Return the files from which the run is restored."""
    names = [f"{RUN}/{_CONFIG}", f"transformer/{WEIGHTS}"]
    names += [f"{folder}/{name}" for folder in (RUN, DECODER_RUN) for name in SMALL_FILES]
    names += [NOTICE]
    if manifest.has_decoder:
        names += [f"{DECODER_RUN}/{_CONFIG}", f"decoder/{WEIGHTS}"]
    optional = {*(f"{folder}/{name}" for folder in (RUN, DECODER_RUN) for name in SMALL_FILES), NOTICE}
    names = [name for name in names if name not in optional or name in manifest.files]
    for folders in manifest.copies.values():
        names += [
            name for name in manifest.files if name.partition("/")[0] in folders and name.endswith(_ENCODER_SUFFIXES)
        ]
    return names


def require_listed(name: str, manifest: Manifest, sizes: dict[str, int], repository: str) -> None:
    """Check that a file exists on the Hub with the size that the manifest states.

    Raises:
        RunError: The file is missing or has a different size.
    """
    if name not in manifest.files or name not in sizes:
        raise RunError(f"{repository}: {name} is missing; ask the author to publish the run again")
    if sizes[name] != manifest.files[name][0]:
        raise RunError(
            f"{repository}: {name} has {sizes[name]} bytes instead of {manifest.files[name][0]}; ask the author to "
            "publish the run again"
        )
    if not name.endswith(".safetensors"):
        require_small(sizes, name, repository)


def require_small(sizes: dict[str, int], name: str, repository: str) -> None:
    """Check that the size of a file other than weights is at most ``_MAX_SMALL``.

    Raises:
        RunError: The file is too large.
    """
    if (sizes[name] or 0) > _MAX_SMALL:
        raise RunError(f"{repository}: {name} is larger than {_MAX_SMALL} bytes; do not use this repository")


def require_digest(path: Path, name: str, manifest: Manifest, repository: str) -> None:
    """Check the hash of a downloaded file. If it differs, delete the file, so that it is downloaded again.

    Raises:
        RunError: The hash differs.
    """
    if sha256_of(path) != manifest.files[name][1]:
        path.unlink()
        raise RunError(f"{repository}: {name} is damaged: its SHA-256 does not match; run the command again")


def require_safe_config(path: Path, repository: str) -> None:
    """Check that a downloaded configuration is valid, names only trusted classes, and contains no interpolations.

    Raises:
        ConfigError: The configuration is invalid, or names a class that is not trusted.
        RunError: The configuration contains an interpolation, which could read an environment variable.
    """
    if _INTERPOLATION.search(path.read_text(encoding="utf-8")):
        raise RunError(f"{repository}: its configuration contains an interpolation (${{...}}), which is not allowed")
    try:
        load(path, [], kind_of(path))
    except ConfigError as error:
        raise ConfigError(f"{repository}: {error}") from error


def restore(partial: Path, folder: str, manifest: Manifest, target: Path) -> Path:
    """Assemble a run from downloaded files, and check that its weights match its configuration.

    Args:
        partial: Folder of the downloaded files.
        folder: ``run`` or ``decoder_run``.
        manifest: The manifest.
        target: Path that the run will have.

    Returns:
        A temporary folder that contains the run.

    Raises:
        RunError: The weights are damaged or do not match the configuration.
    """
    temporary = partial / f"{folder}.restored"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    run = RunFolder(temporary)
    for source in [partial / folder / name for name in SMALL_FILES] + [partial / NOTICE]:
        if source.is_file():
            shutil.copyfile(source, temporary / source.name)
    kind: Any = Experiment if folder == RUN else DecoderExperiment
    loaded = load(partial / folder / _CONFIG, [], kind)
    if folder == RUN:
        copy_encoders(partial, manifest, temporary / ENCODERS)
    home = target if folder == RUN else target.with_name(target.name.removesuffix(DECODER_SUFFIX))
    write_atomically(run.config, with_encoders(loaded, manifest, home / ENCODERS))
    component, prefix = ("transformer", NETWORK_PREFIX) if folder == RUN else ("decoder", _DECODER_PREFIX)
    weights = load_file(partial / component / WEIGHTS)
    save_weights(run.weights, {name.removeprefix(prefix): value for name, value in weights.items()})
    load_network(run) if folder == RUN else load_decoder(run)
    return temporary


def copy_encoders(partial: Path, manifest: Manifest, target: Path) -> None:
    """Copy the files of each encoder to one folder, which contains both the model and its tokenizer."""
    for folders in manifest.copies.values():
        destination = target / folders[0]
        for name in folders:
            for source in sorted((partial / name).iterdir()):
                if source.is_file() and source.suffix in _ENCODER_SUFFIXES:
                    destination.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, destination / source.name)


def with_encoders(loaded: Loaded[Any], manifest: Manifest, encoders: Path) -> str:
    """Return a configuration in which the encoders are read from the folder of the run."""
    values = json.loads(json.dumps(loaded.resolved))
    for key, folders in manifest.copies.items():
        if key.partition(".")[0] in values:
            encoder_at(values, key)["init_args"]["repository"] = str(encoders / folders[0])
    return Loaded(loaded.config, values, loaded.path).to_yaml()

"""The files of a run in a published folder, from which ``lightning pull`` restores the run.

    run/config.yaml              the configuration, without settings that only apply to the author's machine
    run/finished                 and other small files
    pocketdit.json               the manifest: sizes and hashes of all files, and the folders of copied encoders

The weights are not stored a second time, because they are those of the pipeline's transformer.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.config.experiment import Tracking
from pocketdit.config.load import Loaded
from pocketdit.config.secrets import Reference
from pocketdit.config.typed import plain
from pocketdit.errors import ConfigError, RunError
from pocketdit.files import sha256_of
from pocketdit.links import require_inside

FORMAT = 1
MANIFEST = "pocketdit.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
RUN, DECODER_RUN = "run", "decoder_run"
# Files of a run that other commands need, besides its configuration and its weights.
SMALL_FILES = ("finished", "palettes.safetensors", "quantization.json", "quantization.png")


def published_config(loaded: Loaded[Any], copies: Mapping[str, Sequence[str]]) -> str:
    """Return a run's configuration without settings that only apply to the author's machine.

    The tracking server and the folder of the runs are replaced with their defaults. The path of the data set is made
    relative.

    Args:
        loaded: The configuration.
        copies: For each encoder whose files are copied to the published folder, its key and the names of its folders.

    Raises:
        ConfigError: A value refers to an environment variable, which other machines do not have.
    """
    values = json.loads(json.dumps(loaded.resolved))
    values["tracking"], values["runs"] = plain(Tracking()), "runs"
    data = values["data"]["init_args"]
    if Path(str(data.get("path", ""))).is_absolute():
        data["path"] = f"data/{Path(data['path']).name}"
    for key, folders in copies.items():
        encoder_at(values, key)["init_args"]["repository"] = folders[0]
    originals = {**loaded.resolved, "tracking": values["tracking"], "runs": "runs"}
    for key, value in leaves(originals):
        if isinstance(value, Reference):
            raise ConfigError(
                f"{loaded.path}: {key} refers to an environment variable, which a published run must not do; publish a "
                "copy of the run in which the value is written out"
            )
    return Loaded(loaded.config, values, loaded.path).to_yaml()


def encoder_at(values: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the section of an encoder, ``autoencoder`` or ``text_encoders.N``, in a configuration."""
    name, _, number = key.partition(".")
    section: dict[str, Any] = values[name][int(number)] if number else values[name]
    return section


def leaves(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every scalar in nested values."""
    if isinstance(values, dict | list):
        for name, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, values


def copy_small_files(folder: RunFolder, target: Path) -> None:
    """Copy the files named in ``SMALL_FILES`` that exist in a run.

    Raises:
        RunError: A file is a link to a place outside the run's folder.
    """
    for name in SMALL_FILES:
        source = folder.path / name
        if source.is_file():
            require_inside(source, folder.path)
            (target / name).write_bytes(source.read_bytes())


@dataclass(frozen=True)
class Manifest:
    """The contents of ``pocketdit.json``.

    Attributes:
        run: Name of the run.
        copies: For each encoder whose files are copied, its key and the names of its folders.
        has_decoder: Whether a tiny decoder is included.
        files: Size and SHA-256 of every other file, by its path.
    """

    run: str
    copies: dict[str, list[str]]
    has_decoder: bool
    files: dict[str, tuple[int, str]]

    def to_json(self, version: str) -> str:
        """Return the contents of the manifest file."""
        values = {
            "format": FORMAT,
            "pocketdit": version,
            "run": self.run,
            "copies": self.copies,
            "has_decoder": self.has_decoder,
            "files": {path: {"size": size, "sha256": digest} for path, (size, digest) in self.files.items()},
        }
        return json.dumps(values, indent=1) + "\n"


def describe_files(folder: Path) -> dict[str, tuple[int, str]]:
    """Return the size and the SHA-256 of every file in a folder, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, sha256_of(path)) for path in files}


def read_manifest(text: str, where: str) -> Manifest:
    """Parse ``pocketdit.json``, which may come from other people.

    Raises:
        RunError: The file is damaged, has a different format, or contains an unsafe path.
    """
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise RunError(f"{where}: {MANIFEST} has format {values['format']}, but this version reads {FORMAT}")
        files = {str(path): (int(entry["size"]), str(entry["sha256"])) for path, entry in values["files"].items()}
        copies = {str(key): [str(name) for name in names] for key, names in values["copies"].items()}
        manifest = Manifest(str(values["run"]), copies, bool(values["has_decoder"]), files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{where}: {MANIFEST} is damaged ({error})") from error
    for path in [*files, *(name for names in copies.values() for name in names)]:
        require_safe_path(path, where)
    return manifest


def require_safe_path(path: str, where: str) -> None:
    """Check that a path of a published file stays inside the folder of the run.

    Raises:
        RunError: The path is absolute, contains "..", a backslash or a control character, or begins with a dot.
    """
    parts = PurePosixPath(path).parts
    plain_text = path.isprintable() and "\\" not in path and ":" not in path
    if not parts or not plain_text or path.startswith("/") or any(part.startswith(".") for part in parts):
        raise RunError(f"{where}: contains the unsafe path {path!r}; do not use this repository")

"""Open a bundle, and check its format, its manifest and the checksums of its files."""

import json
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pocketdit.errors import ConfigError
from pocketdit.export.common.bundle_files import MANIFEST, require_known_format
from pocketdit.files import sha256_of
from pocketdit.links import require_no_links_outside

SCHEMA = Path(__file__).with_name("manifest.schema.json")
"""JSON schema of the manifest."""


@dataclass(frozen=True)
class Bundle:
    """A complete bundle, whose files have not changed since the export.

    Attributes:
        folder: Path of the bundle.
        manifest: The manifest, which matches the schema.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def times(self) -> list[float]:
        """The sampling times, which decrease from 1 to 0."""
        times: list[float] = self.manifest["sampling"]["times"]
        return times

    def shape(self, package: str, name: str) -> tuple[int, ...]:
        """Return the shape of a package's input."""
        return tuple(self.manifest["packages"][package]["inputs"][name]["shape"])


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle and check it completely.

    Raises:
        ConfigError: The folder is not a bundle, the bundle has another format version, the manifest does not match the
            schema or contradicts itself, or a file is missing or has changed.
        RunError: The bundle contains a link to a file outside the bundle.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise ConfigError(
            f"{folder}: not an export bundle (no {MANIFEST}); create one with: lightning export"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not valid JSON; export the bundle again") from error
    if not isinstance(manifest, dict):
        raise ConfigError(f"{file}: not a manifest; export the bundle again")
    require_known_format(manifest, folder)
    require_schema(manifest, file)
    require_times(manifest["sampling"], file)
    require_listed(manifest, file)
    require_no_links_outside(folder)
    require_files(manifest["files"], folder)
    return Bundle(folder, manifest)


def require_schema(manifest: dict[str, Any], file: Path) -> None:
    """Check a manifest against its JSON schema.

    Raises:
        ConfigError: The manifest does not match. The message names the key.
    """
    from jsonschema.exceptions import best_match

    if error := best_match(validator().iter_errors(manifest)):
        key = ".".join(map(str, error.absolute_path))
        raise ConfigError(f"{file}: {f'{key}: ' if key else ''}{error.message[:200]}; export the bundle again")


@cache
def validator() -> Any:
    """Return a validator for the manifest's schema. The validator does not accept 4.0 as an integer."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return extend(Draft202012Validator, type_checker=types)(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _refuse_constant(name: str) -> None:
    """Refuse NaN and infinity, which Python's parser accepts although they are not valid JSON."""
    raise ValueError(f"{name} is not valid JSON")


def require_times(sampling: dict[str, Any], file: Path) -> None:
    """Check that the times match the number of steps and the time shift.

    Raises:
        ConfigError: The times do not match.
    """
    from pocketdit.diffusion.samplers import uniform_times

    times, steps, shift = sampling["times"], sampling["steps"], sampling["time_shift"]
    expected = uniform_times(steps, shift) if len(times) == steps + 1 else ()
    if not expected or any(abs(a - b) > 1e-9 for a, b in zip(times, expected, strict=True)):
        problem = "" if all(a > b for a, b in pairwise(times)) else " and do not decrease"
        raise ConfigError(
            f"{file}: sampling.times: the {len(times)} times do not match {steps} steps with a time shift of "
            f"{shift:g}{problem}; export the bundle again"
        )


def require_listed(manifest: dict[str, Any], file: Path) -> None:
    """Check that the manifest lists the files of all packages and tokenizers, so that their checksums are known.

    Raises:
        ConfigError: A file or a package is not listed.
    """
    listed = {str(part) for name in manifest["files"] for part in (Path(name), *Path(name).parents)}
    encoders = [encoder for encoder in manifest["text"]["encoders"] if encoder["package"] is not None]
    if unknown := [encoder["package"] for encoder in encoders if encoder["package"] not in manifest["packages"]]:
        raise ConfigError(f"{file}: packages: has no entry for {unknown[0]}; export the bundle again")
    used = [package["file"] for package in manifest["packages"].values()]
    used += [encoder["tokenizer"]["file"] for encoder in encoders if "file" in encoder["tokenizer"]]
    if missing := [name for name in used if name not in listed]:
        raise ConfigError(f"{file}: files: does not list {missing[0]}; export the bundle again")


def require_files(files: dict[str, dict[str, Any]], folder: Path) -> None:
    """Check that all files of a bundle exist and match their checksums.

    Raises:
        ConfigError: A file is missing or has changed.
    """
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            raise ConfigError(f"{folder}: {name} is missing; copy the whole bundle, or export it again")
        if path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
            raise ConfigError(
                f"{folder}: {name} has changed since the export; copy the bundle again, or export it again"
            )

"""Files that an evaluation needs and this project does not ship: prompts, questions and weights.

Prompt sets and judges declare their files in a class attribute ``assets``. ``lightning evaluate FILE --fetch``
downloads them to the paths that the evaluation's YAML names, and ``--from FOLDER`` copies them from a folder instead
(for air-gapped machines). A file is written under a temporary name, verified, and then renamed.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
from tqdm import tqdm

from evaluation.settings import Evaluation
from pocketdit.config.component import Component
from pocketdit.config.importing import import_class
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import sha256_of, write_atomically

_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Asset:
    """A file that a component reads.

    Attributes:
        argument: Argument of the component that names the file, or the folder that contains it.
        path: Path of the file below that folder. Empty if the argument names the file itself; the asset is then
            needed only if the argument has the URL's suffix, and not if it names a folder or a library's tag.
        url: Where the file is published.
        sha256: All digits of its SHA-256, or the first ones. Empty if the publisher states none; the file's digest is
            then printed when it arrives.
        size: Approximate size in bytes.
        model: Value of the component's argument ``model`` that the file belongs to, where the component has several.
    """

    argument: str
    path: str
    url: str
    sha256: str
    size: int
    model: str = ""


@dataclass(frozen=True)
class RequiredFile:
    """An asset together with the path where an evaluation expects it."""

    asset: Asset
    target: Path

    @property
    def name(self) -> str:
        """Path of the file below a folder of downloads: below the target folder's name if it contains several."""
        path = self.asset.path
        if not path:
            return self.asset.url.rpartition("/")[2]
        return path if "/" in path else f"{self.target.parent.name}/{path}"


def required_files(settings: Evaluation) -> list[RequiredFile]:
    """Return the files that the components of an evaluation need, without duplicates."""
    files: dict[Path, RequiredFile] = {}
    for component in _components([settings.subject, *settings.prompts.values(), *settings.metrics]):
        for asset in getattr(import_class(component.class_path), "assets", ()):
            location = component.init_args.get(asset.argument)
            if location is None or component.init_args.get("model", asset.model) != asset.model:
                continue
            target = Path(location) / asset.path if asset.path else Path(location)
            if asset.path or target.suffix == Path(asset.url).suffix:
                files.setdefault(target, RequiredFile(asset, target))
    return list(files.values())


def _components(value: Any) -> Iterator[Component]:
    """Yield all components in a configuration, including nested ones."""
    if isinstance(value, Component):
        yield value
        yield from _components(value.init_args)
    elif isinstance(value, dict):
        yield from _components(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _components(item)


def check_files(settings: Evaluation) -> None:
    """Raise ``ConfigError`` listing the files that are missing, their sizes and where they come from."""
    missing = [file for file in required_files(settings) if not file.target.exists()]
    if missing:
        lines = [f"  {file.target} ({_format_size(file.asset.size)}) from {file.asset.url}" for file in missing]
        raise ConfigError(
            f"{len(missing)} files are missing; get them with --fetch, or from a folder with --fetch --from FOLDER:\n"
            + "\n".join(lines)
        )


def fetch_files(settings: Evaluation, source: Path | None = None) -> None:
    """Download missing files, or copy them from the folder ``source``. Files that exist are verified.

    Raises:
        RunError: A download fails.
        UserError: The folder lacks files, or a checksum is wrong.
    """
    files = required_files(settings)
    if not files:
        print("nothing to fetch: all components of this evaluation ship with the project")
        return
    if source is not None:
        _check_source(files, source)
    for file in files:
        if file.target.exists():
            verify(file.target, file.asset.sha256)
            print(f"exists    {file.target}")
        else:
            digest = _fetch(file, source)
            note = "" if file.asset.sha256 else f"  sha256 {digest} (its publisher states none)"
            print(f"fetched   {file.target}{note}")


def _check_source(files: list[RequiredFile], source: Path) -> None:
    if not source.is_dir():
        raise ConfigError(f"--from {source}: no such folder")
    missing = [file.name for file in files if not file.target.exists() and not (source / file.name).is_file()]
    if missing:
        raise ConfigError(f"--from {source}: lacks {len(missing)} of {len(files)} files: {', '.join(missing)}")


def _fetch(file: RequiredFile, source: Path | None) -> str:
    """Copy or download one file; return its SHA-256."""
    origin = str(source / file.name) if source else file.asset.url
    digest = ""

    def receive(temporary: Path) -> None:
        nonlocal digest
        if source is not None:
            shutil.copyfile(source / file.name, temporary)
        else:
            with tqdm(total=file.asset.size, desc=file.target.name, unit="B", unit_scale=True) as progress:
                download = pooch.HTTPDownloader(progressbar=progress, chunk_size=_CHUNK, timeout=_TIMEOUT)
                download(file.asset.url, str(temporary), None)
        digest = verify(temporary, file.asset.sha256, origin)

    try:
        write_atomically(file.target, receive)
    except OSError as error:
        raise RunError(f"{origin}: {error}; run the command again, or copy the file with --from FOLDER") from error
    return digest


def verify(path: Path, sha256: str, origin: str = "") -> str:
    """Return a file's SHA-256.

    Args:
        path: The file.
        sha256: All digits of the expected SHA-256, the first ones, or "".
        origin: Where the file is being copied from, for the error message; "" for a file already in place.

    Raises:
        UserError: The digest does not begin with ``sha256``.
    """
    digest = sha256_of(path)
    if not digest.startswith(sha256):
        remedy = "use another copy" if origin else "delete it and fetch it again"
        raise UserError(f"{origin or path}: wrong checksum {digest}, expected {sha256}; {remedy}")
    return digest


def _format_size(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"

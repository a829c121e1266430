"""Files that evaluations need but that this project does not include: prompts, questions and weights.

Prompt sets and judges declare their files in a class attribute ``assets``. ``lightning evaluate FILE --fetch``
downloads them to the paths that the evaluation's YAML specifies. On air-gapped machines, ``--fetch --from FOLDER``
copies them from a folder instead. A file is written under a temporary name, verified, and then renamed.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
from tqdm.auto import tqdm

from evaluation.settings import Evaluation
from pocketdit.config.component import Component
from pocketdit.config.importing import import_class
from pocketdit.counts import counted
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import sha256_of, write_atomically

_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60  # a download fails after this many seconds without data


@dataclass(frozen=True)
class Asset:
    """A file that a component reads.

    Attributes:
        argument: Name of the component's argument that contains the path of the file or of its folder.
        path: Path of the file relative to that folder. Empty if the argument is the path of the file itself. In that
            case, the file is needed only if the argument has the same suffix as the URL, which excludes folders and a
            library's tags.
        url: URL of the published file.
        sha256: SHA-256 of the file, or only its first digits. Empty if the publisher does not state it; in that case,
            the digest of the fetched file is printed.
        size: Approximate size in bytes.
        model: Value of the component's ``model`` argument for which the file is needed. Empty if the component has no
            such argument.
        license: The file's license, if it restricts how the file may be used. It is printed when the file is fetched.
    """

    argument: str
    path: str
    url: str
    sha256: str
    size: int
    model: str = ""
    license: str = ""


@dataclass(frozen=True)
class RequiredFile:
    """An asset together with the path where an evaluation expects it."""

    asset: Asset
    target: Path

    @property
    def name(self) -> str:
        """Path of the file relative to the folder that is passed to ``--from``.

        The files of a model folder are expected in a subfolder with the same name as the model folder.
        """
        path = self.asset.path
        if not path:
            return self.asset.url.rpartition("/")[2]
        return path if "/" in path else f"{self.target.parent.name}/{path}"


def required_files(settings: Evaluation) -> list[RequiredFile]:
    """Return the files that the components of an evaluation need, without duplicates.

    If a model folder already contains weights, its other files are not required, because a user's own model may have a
    different layout, such as a tokenizer in a single file. The judge itself reports missing files. ``--fetch`` fetches
    the weights last, so that an interrupted download can be resumed.
    """
    files: dict[Path, RequiredFile] = {}
    for component in _components([settings.subject, *settings.prompts.values(), *settings.metrics]):
        for asset in getattr(import_class(component.class_path), "assets", ()):
            location = component.init_args.get(asset.argument)
            if location is None or component.init_args.get("model", asset.model) != asset.model:
                continue
            target = Path(location) / asset.path if asset.path else Path(location)
            if asset.path and "/" not in asset.path and any(Path(location).glob("*.safetensors")):
                continue
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
    """Check that the files that an evaluation needs exist.

    Raises:
        ConfigError: Files are missing. The message lists their paths, sizes and URLs.
    """
    missing = [file for file in required_files(settings) if not file.target.exists()]
    if missing:
        lines = [f"  {file.target} ({_format_size(file.asset.size)}) from {file.asset.url}" for file in missing]
        raise ConfigError(
            f"{counted(len(missing), 'file')} missing; download with --fetch, or copy with --fetch --from FOLDER:\n"
            + "\n".join(lines)
        )


def fetch_files(settings: Evaluation, source: Path | None = None) -> None:
    """Download missing files, or copy them from the folder ``source``. Existing files are verified.

    Raises:
        RunError: A download fails.
        UserError: Files are missing from the folder, or a checksum is wrong.
    """
    files = required_files(settings)
    if not files:
        print("nothing to fetch: --fetch has no files for this evaluation; see the comments in its YAML file")
        return
    if source is not None:
        _check_source(files, source)
    for file in files:
        if file.target.exists():
            verify(file.target, file.asset.sha256)
            print(f"exists    {file.target}")
        else:
            digest = _fetch(file, source)
            note = "" if file.asset.sha256 else f"  sha256 {digest} (not verified: the publisher states no checksum)"
            license_note = f"  license {file.asset.license}" if file.asset.license else ""
            print(f"fetched   {file.target}{note}{license_note}")


def _check_source(files: list[RequiredFile], source: Path) -> None:
    if not source.is_dir():
        raise ConfigError(f"--from {source}: no such folder")
    missing = [file.name for file in files if not file.target.exists() and not (source / file.name).is_file()]
    if missing:
        count = f"{len(missing)} of {counted(len(files), 'file')}"
        raise ConfigError(f"--from {source}: {count} missing: {', '.join(missing)}")


def _fetch(file: RequiredFile, source: Path | None) -> str:
    """Copy or download one file, and return its SHA-256."""
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
    """Check the SHA-256 of a file, and return it.

    Args:
        path: The file.
        sha256: The expected SHA-256, or only its first digits. "" accepts any file.
        origin: Source of the file, for the error message. "" if the file already existed.

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

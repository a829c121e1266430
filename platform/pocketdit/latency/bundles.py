"""Open an exported Core ML bundle for latency: its run, image size and census."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketdit.errors import RunError
from pocketdit.export.common.bundle_files import CENSUS, DECODER, LATENCY, MANIFEST
from pocketdit.export.common.census import Census


@dataclass(frozen=True)
class Bundle:
    """A Core ML bundle.

    Attributes:
        folder: Where it is.
        run: The run's full name, EXPERIMENT/RUN. Empty for random weights.
        weights: SHA-256 of the run's weights. Empty for random weights.
        width: Width of the sub-network.
        size: Image height and width in pixels.
        batch: Batch size of the transformer's inputs.
    """

    folder: Path
    run: str
    weights: str
    width: float
    size: tuple[int, int]
    batch: int

    @property
    def size_text(self) -> str:
        """Image size as HEIGHTxWIDTH."""
        return f"{self.size[0]}x{self.size[1]}"

    def batch_of(self, package: str) -> int:
        """Batch size of a package. The decoder takes one image at a time."""
        return 1 if package == DECODER else self.batch

    def path_of(self, package: str) -> Path:
        """Path of a package. Raises ``RunError`` if the bundle does not contain it."""
        path = self.folder / f"{package}.mlpackage"
        if not path.is_dir():
            raise RunError(f"{self.folder}: {path.name} is missing; export the bundle again")
        return path

    def has(self, package: str) -> bool:
        """Whether the bundle contains a package."""
        return (self.folder / f"{package}.mlpackage").is_dir()

    def census(self) -> Census:
        """Census of the transformer. Raises ``RunError`` if it cannot be read."""
        file = self.folder / CENSUS
        try:
            return Census.from_json(file.read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file}: not a readable census ({error}); export the bundle again") from error


def open_bundle(folder: Path) -> Bundle:
    """Read a bundle's manifest. Raises ``RunError`` if the folder is not a Core ML bundle."""
    file = folder / MANIFEST
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        if "packages" not in content and "file" in content:
            raise RunError(
                f"{folder}: contains {content['file']}, not Core ML packages; its latency is in {LATENCY}, and is "
                "measured on a phone with: lightning export experiments/export/litert.yaml litert.benchmark=..."
            )
        image = content["image"]
        return Bundle(
            folder,
            content["weights"]["run"] or "",
            content["weights"]["sha256"] or "",
            float(content["network"]["width"]),
            (int(image["height"]), int(image["width"])),
            int(content["settings"]["batch"]),
        )
    except OSError as error:
        raise RunError(f"{folder}: not an export bundle (no {MANIFEST}); create one with: lightning export") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: not a valid manifest ({error!r}); export the bundle again") from error


def find_bundles(exports: Path, run: str, size: tuple[int, int]) -> Iterator[Bundle]:
    """Yield a run's bundles for an image size, newest first. Bundles that cannot be read are reported and skipped."""
    files = [file for file in exports.glob(f"*/{MANIFEST}") if not file.parent.name.startswith(".")]
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            bundle = open_bundle(file.parent)
        except RunError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        if bundle.run == run and bundle.size == size:
            yield bundle

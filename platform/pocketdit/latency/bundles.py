"""Find exported Core ML and Core AI bundles, and read their manifests and censuses."""

import json
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketdit.errors import RunError, UserError
from pocketdit.export.common.bundle_files import CENSUS, DECODER, LATENCY, MANIFEST, require_known_format
from pocketdit.export.common.census import Census


@dataclass(frozen=True)
class Bundle:
    """A Core ML or Core AI bundle.

    Attributes:
        folder: Path of the bundle.
        run: Full name of the run, EXPERIMENT/RUN. Empty for random weights.
        weights: SHA-256 of the run's weights. Empty for random weights.
        width: Width of the sub-network.
        size: Image height and width in pixels.
        batch: Batch size of the transformer's inputs.
        format: Name of the export target.
    """

    folder: Path
    run: str
    weights: str
    width: float
    size: tuple[int, int]
    batch: int
    format: str = "coreml"

    @property
    def size_text(self) -> str:
        """Image size as HEIGHTxWIDTH."""
        return f"{self.size[0]}x{self.size[1]}"

    def batch_of(self, package: str) -> int:
        """Return the batch size of a package. The decoder processes one image at a time."""
        return 1 if package == DECODER else self.batch

    def path_of(self, package: str) -> Path:
        """Return the path of a package.

        Raises:
            RunError: The bundle is not a Core ML bundle, or does not contain the package.
        """
        if self.format != "coreml":
            raise RunError(f"{self.folder}: only Core ML packages can be measured; export with coreml.yaml")
        path = self.folder / f"{package}.mlpackage"
        if not path.is_dir():
            raise RunError(f"{self.folder}: {path.name} is missing; export the bundle again")
        return path

    def has(self, package: str) -> bool:
        """Return whether the bundle contains a package."""
        return (self.folder / f"{package}.mlpackage").is_dir()

    def census(self) -> Census:
        """Read the census of the transformer.

        Raises:
            RunError: The census cannot be read.
        """
        file = self.folder / CENSUS
        try:
            return Census.from_json(file.read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file}: the census cannot be read ({error}); export the bundle again") from error


def open_bundle(folder: Path) -> Bundle:
    """Read the manifest of a bundle.

    Raises:
        RunError: The folder is not a Core ML or Core AI bundle.
    """
    file = folder / MANIFEST
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        require_known_format(content, folder)
        if content.get("kind") == "litert":
            raise RunError(
                f"{folder}: contains LiteRT files, not Core ML packages; recorded latencies are in {LATENCY}; measure "
                "the latency on a phone with: lightning export experiments/export/litert.yaml litert.benchmark=..."
            )
        image = content["image"]
        return Bundle(
            folder,
            content["weights"]["run"] or "",
            content["weights"]["sha256"] or "",
            float(content["network"]["width"]),
            (int(image["height"]), int(image["width"])),
            int(content["settings"]["batch"]),
            str(content.get("kind", "coreml")),
        )
    except OSError as error:
        raise RunError(f"{folder}: not an export bundle (no {MANIFEST}); create one with: lightning export") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{file}: not a valid manifest ({error!r}); export the bundle again") from error


def find_bundles(exports: Path, runs: Collection[str], size: tuple[int, int]) -> Iterator[Bundle]:
    """Yield all bundles of ``runs`` for an image size, newest first. Report and skip bundles that cannot be read."""
    files = [file for file in exports.glob(f"*/{MANIFEST}") if not file.parent.name.startswith(".")]
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            bundle = open_bundle(file.parent)
        except UserError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        if bundle.run in runs and bundle.size == size:
            yield bundle

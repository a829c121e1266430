"""An exported bundle as latency sees it: whose network, at which size, and the census of its graph."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketdit.errors import RunError
from pocketdit.export.census import Census
from pocketdit.export.folder import MANIFEST

# Names that ``lightning export`` gives; the census is the transformer's.
CENSUS, TRANSFORMER, DECODER = "census.json", "transformer", "decoder"
LATENCY = "latency.jsonl"


@dataclass(frozen=True)
class Bundle:
    """``run``: EXPERIMENT/RUN, empty for random weights. ``weights``: their SHA-256, empty likewise. ``size``: of the
    picture, height and width. ``batch``: of the transformer's inputs.
    """

    folder: Path
    run: str
    weights: str
    width: float
    size: tuple[int, int]
    batch: int

    @property
    def size_text(self) -> str:
        return f"{self.size[0]}x{self.size[1]}"

    def batch_of(self, name: str) -> int:
        """A decoder takes one picture at a time."""
        return 1 if name == DECODER else self.batch

    def package(self, name: str) -> Path:
        """``RunError`` where the bundle has none of this name."""
        path = self.folder / f"{name}.mlpackage"
        if not path.is_dir():
            raise RunError(f"{self.folder} holds no {path.name}; export it again")
        return path

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.mlpackage").is_dir()

    def census(self) -> Census:
        """Of the transformer. ``RunError`` where it cannot be read."""
        file = self.folder / CENSUS
        try:
            return Census.from_json(file.read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file}: no census of an exported graph ({error}); export it again") from error


def open_bundle(folder: Path) -> Bundle:
    """``RunError`` where the folder is no exported bundle."""
    file = folder / MANIFEST
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        if "packages" not in content and "file" in content:
            raise RunError(
                f"{folder} holds {content['file']} and no Core ML packages; its latency is in {LATENCY}, and on a "
                "phone by lightning export experiments/export/litert.yaml litert.benchmark=..."
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
        raise RunError(f"{folder} is no exported bundle (no {MANIFEST}); make one with: lightning export") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: not a bundle's manifest ({error!r}); export it again") from error


def bundles_of(exports: Path, run: str, size: tuple[int, int]) -> Iterator[Bundle]:
    """A run's bundles for a picture size, the newest first."""
    files = [file for file in exports.glob(f"*/{MANIFEST}") if not file.parent.name.startswith(".")]
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            bundle = open_bundle(file.parent)
        except RunError as error:  # of another run as likely as not
            print(f"left out: {error}", file=sys.stderr)
            continue
        if bundle.run == run and bundle.size == size:
            yield bundle

"""``runs/<experiment>/<run>/``: everything a run leaves, and the names by which a run is found again.

config.yaml             resolved configuration; enough to build the model again
checkpoints/last.ckpt   full training state
weights.safetensors     averaged weights of the backbone
palettes.safetensors    of a quantised run: palettes and indices of its layers (quantization/palette.py)
quantization.json, .png of a quantised run: bits, sensitivities, sizes; the sensitivities as a chart
samples/*.png           grids of all widths
metrics.jsonl           every metric, in order
finished                present once the run has reached its last step
"""

import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

from elastic_dit.errors import ConfigError, RunError
from elastic_dit.files import write_atomically

LATEST = "latest"


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def new_checkpoint(self) -> Path:
        """Where a sharded checkpoint, which is a folder, is written before it takes the old one's place."""
        return self.checkpoint.with_name(".new.ckpt")

    def take_new_checkpoint(self) -> None:
        """Put the new sharded checkpoint in the old one's place; a kill in between is mended by ``clean``."""
        old = self.checkpoint.with_name(".old.ckpt")
        shutil.rmtree(old, ignore_errors=True)
        if self.checkpoint.exists():
            self.checkpoint.rename(old)
        self.new_checkpoint.rename(self.checkpoint)
        shutil.rmtree(old, ignore_errors=True)

    def clean(self) -> None:
        """Remove what a killed process left half-written, and restore a checkpoint that it had set aside."""
        old = self.checkpoint.with_name(".old.ckpt")
        if old.exists() and not self.checkpoint.exists():
            old.rename(self.checkpoint)
        for rest in (old, self.new_checkpoint):
            shutil.rmtree(rest, ignore_errors=True)
        for temporary in [*self.path.glob(".*.tmp"), *self.path.glob("*/.*.tmp")]:
            temporary.unlink(missing_ok=True)

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def palettes(self) -> Path:
        return self.path / "palettes.safetensors"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def finished(self) -> Path:
        return self.path / "finished"

    def finished_steps(self) -> int:
        """The step that the run finished at; 0 where it did not."""
        return int(self.finished.read_text()) if self.finished.is_file() else 0

    @property
    def name(self) -> str:
        """``<experiment>/<run>``, by which commands take it."""
        return f"{self.path.parent.name}/{self.path.name}"


def create(runs: Path, experiment: str, name: str | None, config: str) -> RunFolder:
    """A new run's folder with its configuration, named by the time unless told, and ``latest`` pointing at it.

    Raises ``ConfigError`` where the name is taken.
    """
    folder = RunFolder(runs / experiment / (name or datetime.now().strftime("%Y-%m-%d_%H-%M-%S")))
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"{folder.path} exists already; go on with it by --resume {folder.name}") from None
    write_atomically(folder.config, config)
    point_latest_at(folder)
    return folder


def point_latest_at(folder: RunFolder) -> None:
    """Replace the symbolic link ``latest`` in one step."""
    temporary = folder.path.parent / f".{LATEST}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.path.name)
    temporary.replace(folder.path.parent / LATEST)


def find(runs: Path, run: str) -> RunFolder:
    """A run by its path, by ``<experiment>/<run>``, or by ``<experiment>`` for its latest.

    Raises ``RunError`` naming what there is where it is not found.
    """
    for path in (Path(run), runs / run):
        if (path / "config.yaml").is_file():
            return RunFolder(path.resolve())
        if (path / LATEST / "config.yaml").is_file():
            return RunFolder((path / LATEST).resolve())
    known = sorted(f"{p.parent.parent.name}/{p.parent.name}" for p in runs.glob("*/*/config.yaml"))
    close = get_close_matches(run, [*known, *sorted({name.split("/")[0] for name in known})], n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; there is {', '.join(known[-3:])}" if known else ""
    raise RunError(f"no run {run} under {runs}/{hint}")

"""``runs/<experiment>/<run>/``: everything a run leaves, and the names by which a run is found again.

config.yaml             resolved configuration; enough to build the model again
checkpoints/last.ckpt   full training state
weights.safetensors     averaged weights of the backbone
palettes.safetensors    of a quantised run: palettes and indices of its layers (quantization/palette.py)
quantization.json, .png of a quantised run: bits, sensitivities, sizes; the sensitivities as a chart
samples/*.png           grids of all widths
metrics.jsonl           every metric, in order
finished                present once the run has reached its last step
lock                    held by the process that trains it
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pocketdit.config.experiment import BaseExperiment, Experiment, kind_of
from pocketdit.config.load import load
from pocketdit.errors import ConfigError, RunError
from pocketdit.files import write_atomically

LATEST = "latest"
# The launcher's child processes find the first process's run folder here.
FOLDER_VARIABLE = "POCKETDIT_RUN_FOLDER"


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

    Raises ``ConfigError`` as ``require_free`` does.
    """
    require_free(runs, experiment, name)
    folder = RunFolder(runs / experiment / (name or datetime.now().strftime("%Y-%m-%d_%H-%M-%S")))
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"{folder.path} exists already; go on with it by --resume {folder.name}") from None
    write_atomically(folder.config, config)
    point_latest_at(folder)
    return folder


def require_free(runs: Path, experiment: str, name: str | None) -> None:
    """Raises ``ConfigError`` where a new run cannot have the name: it is taken, or no folder's."""
    if name is None:
        return
    if not name or "/" in name or name.startswith(".") or name == LATEST:
        raise ConfigError(f'--name "{name}": must be a plain name; it is a folder under {runs / experiment}')
    folder = RunFolder(runs / experiment / name)
    if folder.path.exists():
        raise ConfigError(f"{folder.path} exists already; go on with it by --resume {folder.name}")


@contextmanager
def lock(folder: RunFolder) -> Iterator[None]:
    """Keep other processes from training in the folder. Raises ``RunError`` where one does.

    The lock is the process's own: its data workers do not inherit it, and it ends with the process, however that ends.
    """
    with (folder.path / "lock").open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise RunError(f"{folder.name} is being trained by another process: wait for it, or stop it") from None
        except OSError:
            pass  # a file system without locks
        yield


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
    paths = [path.parent for path in runs.glob("*/*/config.yaml") if path.parent.name != LATEST]
    known = [f"{path.parent.name}/{path.name}" for path in sorted(paths, key=lambda path: path.stat().st_mtime)]
    close = [name for name in known if name.endswith(f"/{run}")]
    close += get_close_matches(run, [*known, *sorted({name.split("/")[0] for name in known})], n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; there is {', '.join(known[-3:])}" if known else ""
    raise RunError(f"no run {run} under {runs}/{hint}")


def inherited_folder() -> RunFolder | None:
    """The run folder of the process that started this one as another rank."""
    inherited = os.environ.get(FOLDER_VARIABLE)
    return RunFolder(Path(inherited)) if inherited else None


def leads() -> bool:
    """Whether this is the one process of the run that began the others, or the only one."""
    return inherited_folder() is None and launched_rank() == 0


def launched_rank() -> int:
    """This process's rank under an external launcher; 0 outside one."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def load_experiment(folder: RunFolder, kind: type[BaseExperiment] = Experiment) -> Any:
    """The configuration that a run was made with. ``ConfigError`` where it is of another kind."""
    if kind_of(folder.config) is not kind:
        what = ("a backbone", "a decoder") if kind is Experiment else ("a decoder", "a backbone")
        raise ConfigError(f"{folder.name}: the run of {what[0]} is wanted here, and this one trained {what[1]}")
    return load(folder.config, [], kind).config

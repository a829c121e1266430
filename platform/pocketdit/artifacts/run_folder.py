"""The run folder: its files, and how it is created, locked, and found by name.

The folder ``runs/<experiment>/<run>/`` contains these files::

    config.yaml              resolved configuration, from which the model can be rebuilt
    checkpoints/last.ckpt    complete training state
    weights.safetensors      EMA weights
    pytorch_lora_weights.safetensors
                             LoRA for diffusers and peft (runs that trained a LoRA; see artifacts/lora_file.py)
    palettes.safetensors     palettes and indices of the layers (quantized runs; see quantization/palette.py)
    quantization.json, .png  bits, sensitivities, and sizes, and a plot of the sensitivities (quantized runs)
    samples/*.png            previews, such as image grids for all widths
    metrics.jsonl            all logged metrics, in order
    parents.json             names of the parent runs and hashes of their weights
    NOTICE.txt               attribution that the license of the data requires (see artifacts/notice.py)
    finished                 the final step (finished runs)
    earlier-1/               results of an earlier attempt whose checkpoint was lost
    lock                     file lock of the process that trains the run
"""

import os
import shlex
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import TypeVar, overload

from pocketdit.config.experiment import AutoencoderExperiment, BaseExperiment, DecoderExperiment, Experiment, kind_of
from pocketdit.config.load import load
from pocketdit.config.shell import operand
from pocketdit.errors import ConfigError, RunError
from pocketdit.files import write_atomically
from pocketdit.locks import hold_lock
from pocketdit.names import is_plain_name

LATEST = "latest"
# Environment variable that passes the first process's run folder to the child processes that a launcher starts.
FOLDER_VARIABLE = "POCKETDIT_RUN_FOLDER"

ExperimentT = TypeVar("ExperimentT", bound=BaseExperiment)
# The network that each kind of experiment trains, with its indefinite article.
NETWORKS: Mapping[type[BaseExperiment], str] = {
    Experiment: "a backbone",
    DecoderExperiment: "a decoder",
    AutoencoderExperiment: "an autoencoder",
}


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint, which is a file, or a folder under FSDP2."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def new_checkpoint(self) -> Path:
        """Temporary path of a new checkpoint that is sharded or replaces a sharded checkpoint."""
        return self.checkpoint.with_name(".new.ckpt")

    @property
    def old_checkpoint(self) -> Path:
        """Temporary path of the previous checkpoint while ``new_checkpoint`` replaces it."""
        return self.checkpoint.with_name(".old.ckpt")

    @property
    def weights(self) -> Path:
        """The EMA weights."""
        return self.path / "weights.safetensors"

    @property
    def palettes(self) -> Path:
        """The palettes of a quantized run."""
        return self.path / "palettes.safetensors"

    @property
    def samples(self) -> Path:
        """The folder of previews."""
        return self.path / "samples"

    @property
    def metrics(self) -> Path:
        """The metrics journal."""
        return self.path / "metrics.jsonl"

    @property
    def finished(self) -> Path:
        """The file that marks the run as finished and contains the final step."""
        return self.path / "finished"

    @property
    def name(self) -> str:
        """``<experiment>/<run>``, the name that commands accept."""
        return f"{self.path.parent.name}/{self.path.name}"

    def finished_steps(self) -> int:
        """Return the step at which the run finished, or 0 if it has not finished.

        Raises:
            RunError: The file does not contain a number.
        """
        if not self.finished.is_file():
            return 0
        try:
            return int(self.finished.read_bytes())
        except ValueError:
            raise RunError(
                f"{self.finished} is damaged: it does not contain the final step; delete it to resume the run from its "
                "checkpoint"
            ) from None

    def set_results_aside(self) -> Path | None:
        """Move the results of an earlier attempt to a separate folder, so that a new attempt does not overwrite them.

        Returns:
            The separate folder, or None if there are no results.
        """
        results = [self.weights, self.palettes, self.finished, *sorted(self.path.glob("quantization.*"))]
        results = [path for path in results if path.is_file()]
        if not results:
            return None
        kept = next(path for n in count(1) if not (path := self.path / f"earlier-{n}").exists())
        kept.mkdir()
        for path in results:
            path.rename(kept / path.name)
        return kept

    def publish_new_checkpoint(self) -> None:
        """Replace the previous checkpoint with ``new_checkpoint``. ``clean`` repairs an interrupted replacement."""
        remove(self.old_checkpoint)
        if self.checkpoint.exists():
            self.checkpoint.rename(self.old_checkpoint)
        self.new_checkpoint.rename(self.checkpoint)
        remove(self.old_checkpoint)

    def lacks_checkpoint(self) -> bool:
        """Return whether the replacement of the checkpoint was interrupted, so that ``clean`` must restore it."""
        return self.old_checkpoint.exists() and not self.checkpoint.exists()

    def is_abandoned(self) -> bool:
        """Return whether the process that created this folder was killed before it wrote the configuration."""
        return self.path.is_dir() and all(path.match(".*.tmp") for path in self.path.iterdir())

    def clean(self) -> None:
        """Remove partial files left by a killed process, and restore a checkpoint that was being replaced."""
        if self.lacks_checkpoint():
            self.old_checkpoint.rename(self.checkpoint)
        for leftover in (self.old_checkpoint, self.new_checkpoint):
            remove(leftover)
        for temporary in [*self.path.glob(".*.tmp"), *self.path.glob("*/.*.tmp")]:
            temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists and can be removed."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def create(runs: Path, experiment: str, name: str, config: str) -> RunFolder:
    """Create the folder of a new run, write its configuration, and point ``latest`` to it.

    Args:
        runs: Folder of all runs.
        experiment: Name of the experiment.
        name: Name of the run.
        config: The resolved configuration as YAML.

    Raises:
        ConfigError: The name is already taken or is not a valid folder name.
    """
    require_free(runs, experiment, name)
    folder = RunFolder(runs / experiment / name)
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_abandoned():
            raise name_taken(folder) from None
        folder.clean()
    write_atomically(folder.config, config)
    point_latest_at(folder)
    return folder


def require_free(runs: Path, experiment: str, name: str | None) -> None:
    """Raise ``ConfigError`` if the name is already taken or is not a valid folder name."""
    if name is None:
        return
    if not is_plain_name(name) or name == LATEST:
        raise ConfigError(
            f'--name "{name}": must be a plain name other than {LATEST}, without slashes or a leading dot'
        )
    folder = RunFolder(runs / experiment / name)
    if os.path.lexists(folder.path) and not folder.is_abandoned():
        raise name_taken(folder)


def name_taken(folder: RunFolder) -> ConfigError:
    """Return the error for a run name that is already taken."""
    if not folder.config.is_file():
        return ConfigError(
            f"{folder.path} already exists, but it is not the folder of a run, because it has no {folder.config.name}; "
            "delete it, or choose another --name"
        )
    return ConfigError(
        f"{folder.path} already exists; resume it with {resume_option(folder)}, or choose another --name"
    )


def resume_option(folder: RunFolder) -> str:
    """Return the option that resumes a run, quoted for a shell."""
    return shlex.join(["--resume", operand(folder.name)])


def lock(folder: RunFolder) -> AbstractContextManager[None]:
    """Prevent other processes from training in the folder while the returned context is open.

    Raises:
        RunError: Another process holds the lock.
    """
    message = f"{folder.name} is being trained by another process; wait until that process finishes, or stop it"
    return hold_lock(folder.path / "lock", message)


def point_latest_at(folder: RunFolder) -> None:
    """Point the symbolic link ``latest`` to a run, atomically."""
    temporary = folder.path.parent / f".{LATEST}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.path.name)
    temporary.replace(folder.path.parent / LATEST)


def find(runs: Path, run: str) -> RunFolder:
    """Find a run by its path, by ``<experiment>/<run>``, or by ``<experiment>`` for its latest run.

    Raises:
        RunError: The run does not exist. The message suggests a similar name or lists the newest runs.
    """
    for path in (Path(run), runs / run):
        if (path / "config.yaml").is_file():
            return RunFolder(shortest(path))
        if (path / LATEST / "config.yaml").is_file():
            return RunFolder(shortest(path / LATEST))
    paths = [path.parent for path in runs.glob("*/*/config.yaml") if path.parent.name != LATEST]
    names = [f"{path.parent.name}/{path.name}" for path in sorted(paths, key=lambda path: path.stat().st_mtime)]
    # The link to the latest run of an experiment is missing, or broken, if that run was deleted.
    similar = [name for name in reversed(names) if run in name.split("/")]
    similar += get_close_matches(run, [*names, *sorted({name.split("/")[0] for name in names})], n=1)
    hint = ""
    if similar:
        hint = f"; did you mean {similar[0]}?"
    elif names:
        hint = f"; the newest are {', '.join(names[-3:])}"
    raise RunError(f"no run named {run} in {runs}/{hint}")


def shortest(path: Path) -> Path:
    """Return a path with all links resolved, relative to the current folder if it lies inside that folder."""
    resolved, current = path.resolve(), Path.cwd()
    return resolved.relative_to(current) if resolved.is_relative_to(current) else resolved


def inherited_folder() -> RunFolder | None:
    """Return the run folder passed on by the process that started this rank, or None in the first process."""
    path = os.environ.get(FOLDER_VARIABLE)
    return RunFolder(Path(path)) if path else None


def is_first_process() -> bool:
    """Return whether this is the first or only process of the run."""
    return inherited_folder() is None and launched_rank() == 0


def launched_rank() -> int:
    """Return this process's rank under an external launcher (torchrun, srun), or 0 without a launcher."""
    return environment_number("RANK", "SLURM_PROCID") or 0


def environment_number(*names: str) -> int | None:
    """Return the integer in the first environment variable that is set, or None if none of the variables is set.

    Raises:
        ConfigError: The value is not an integer.
    """
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None:
        return None
    try:
        return int(os.environ[name])
    except ValueError:
        raise ConfigError(f"{name}={os.environ[name]}: this environment variable must be a whole number") from None


@overload
def load_experiment(folder: RunFolder) -> Experiment: ...


@overload
def load_experiment(folder: RunFolder, kind: type[ExperimentT]) -> ExperimentT: ...


def load_experiment(folder: RunFolder, kind: type[BaseExperiment] = Experiment) -> BaseExperiment:
    """Return the configuration of a run.

    Raises:
        ConfigError: The run did not train the requested kind of network.
    """
    actual = kind_of(folder.config)
    if actual is not kind:
        needed, trained = NETWORKS[kind], NETWORKS[actual]
        raise ConfigError(f"{folder.name} trained {trained}; use a run that trained {needed}")
    return load(folder.config, [], kind).config

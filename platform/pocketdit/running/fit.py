"""Trains a network as configured, and saves it in a run folder."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from pocketdit.artifacts import run_folder
from pocketdit.artifacts.notice import join_notices, write_notice
from pocketdit.artifacts.run_folder import (
    FOLDER_VARIABLE,
    RunFolder,
    inherited_folder,
    is_first_process,
    resume_option,
)
from pocketdit.config.experiment import AnyExperiment, AutoencoderExperiment
from pocketdit.config.importing import import_class
from pocketdit.config.load import Loaded, load
from pocketdit.data_contract import DataDescription, DescribedData
from pocketdit.encoders.contract import FrozenModule
from pocketdit.errors import ConfigError, RunError, RunInterruptedError
from pocketdit.links import require_no_links_outside
from pocketdit.running import lineage
from pocketdit.running.agreement import RequireAgreement
from pocketdit.running.assemble import build_data, build_encoders, build_stage
from pocketdit.running.callbacks import MoveEncoders
from pocketdit.running.checkpointing import Finish, checkpoint_step
from pocketdit.running.cost_estimate import parameter_summary
from pocketdit.running.data import caption_notes, describe
from pocketdit.running.folders import create_folder, find_resumed, new_folder, prepare_resumed, require_same_settings
from pocketdit.running.processes import require_accelerator, require_processes
from pocketdit.running.trainer import build_trainer
from pocketdit.tracking import comparison
from pocketdit.tracking.logger import RunLogger
from pocketdit.tracking.other_loggers import require_others
from pocketdit.training.memory import keep_freed_memory


def run(
    loaded: Loaded[AnyExperiment],
    resume: str | None,
    name: str | None,
    allow_changes: bool,
    callbacks: Sequence[Callback] = (),
    tags: Mapping[str, str] | None = None,
) -> RunFolder:
    """Train from scratch or from a run's last checkpoint.

    Args:
        loaded: The configuration.
        resume: The name or path of the run to resume. "" resumes the experiment's run ``name`` or, without a name, its
            latest run. If that run does not exist, a new run starts. None always starts a new run.
        name: Name of a new run. Defaults to the current time.
        allow_changes: Whether a resumed run may continue with different settings.
        callbacks: Callbacks in addition to those that every run has.
        tags: MLflow tags in addition to those that every run has.

    Returns:
        The run folder.
    """
    resumed = find_resumed(loaded.config, resume, name)
    with contextlib.ExitStack() as locks:
        if resumed is not None and is_first_process():
            require_no_links_outside(resumed.path)
            locks.enter_context(run_folder.lock(resumed))
        loaded, has_changed = reconcile(loaded, resumed, allow_changes)
        experiment = loaded.config
        if resumed is not None and is_finished(resumed, experiment.training.max_steps):
            return resumed
        checkpoint = resumed.checkpoint if resumed is not None and resumed.checkpoint.exists() else None
        if resumed is not None and checkpoint is not None:
            require_steps_left(resumed, checkpoint, experiment.training.max_steps)
        hide_lightning_messages()
        # Report every error in the configuration before creating a folder.
        require_accelerator(experiment.training.accelerator)
        require_processes(experiment.training)
        require_others(experiment.tracking.also)
        data, description = open_data(experiment, allow_changes)
        encoders = build_encoders(experiment, description)
        stage = build_stage(experiment, encoders, description)
        folder = resumed or new_folder(experiment, name)
        logger = build_logger(experiment, folder, stage, description.fingerprint, repeats_steps=not has_changed)
        splits_data = isinstance(data, DescribedData)
        facts = {**loaded.resolved, "data": {"fingerprint": description.fingerprint, **loaded.resolved["data"]}}
        facts["checkpoint"] = None if checkpoint is None else f"step {checkpoint_step(checkpoint)}"
        callbacks = [RequireAgreement(facts), MoveEncoders(encoders), *callbacks, Finish(folder, logger)]
        trainer = build_trainer(experiment, stage, folder, logger, loaded.to_yaml(), callbacks, splits_data)
        if is_first_process():
            if resumed is None:
                create_folder(folder, experiment, loaded)
                locks.enter_context(run_folder.lock(folder))
            else:
                prepare_attempt(folder, checkpoint, data)
            notice = join_notices(description.attribution or "", autoencoder_attribution(experiment))
            write_notice(folder, notice, lineage.parents(experiment).values())
        logger.log_hyperparams(loaded.resolved)
        own_tags = {comparison.KIND: comparison.TRAINING, "parameters": parameter_summary(experiment)}
        own_tags |= lineage.verify(folder, experiment)
        for key, value in {**own_tags, **(tags or {})}.items():
            logger.log_tag(key, value)
        if trainer.is_global_zero:
            print_unfinished_parents(experiment)
            for note in caption_notes(data, encoders.loaded_text):
                print(f"note: {note}")
        start = time.perf_counter()
        fit(trainer, stage, data, checkpoint, folder)
        if trainer.is_global_zero:
            print_report(folder, experiment, time.perf_counter() - start)
        return folder


def is_finished(folder: RunFolder, max_steps: int) -> bool:
    """Return whether a run has trained for all configured steps and has its weights. Print a message if it has."""
    if folder.finished_steps() < max_steps or not folder.weights.is_file():
        return False
    if is_first_process():
        print(f"{folder.name} has already finished. To start a new run, omit --resume.")
    return True


def hide_lightning_messages() -> None:
    """Hide Lightning's tips and its lists of devices and processes, because the run prints its own summary."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def reconcile(
    loaded: Loaded[AnyExperiment], resumed: RunFolder | None, allow_changes: bool
) -> tuple[Loaded[AnyExperiment], bool]:
    """Pin the parents in a configuration, and compare the configuration of a resumed run with the recorded one.

    The folder of a resumed run is also cleaned up.

    Returns:
        The configuration, and whether a resumed run trains with different settings than before.

    Raises:
        ConfigError: The run cannot be resumed with this configuration.
        RunError: A parent does not exist.
    """
    existing = resumed or inherited_folder()
    if existing is None:
        return lineage.pin(loaded, {}), False
    recorded = load(existing.config, [], type(loaded.config))
    loaded = lineage.pin(loaded, recorded.config.parents)
    if resumed is None or inherited_folder():
        return loaded, False
    has_changed = require_same_settings(recorded.resolved, loaded.resolved, resumed, allow_changes)
    prepare_resumed(resumed)
    return loaded, has_changed


def open_data(experiment: AnyExperiment, allow_changes: bool) -> tuple[LightningDataModule, DataDescription]:
    """Build the data module, and check that its data is suitable for the experiment.

    Raises:
        ConfigError: The data does not match the configured stage.
    """
    data = build_data(experiment)
    if isinstance(data, DescribedData):
        data.allow_changes = allow_changes or data.allow_changes
        with contextlib.nullcontext() if is_first_process() else warnings_disabled():
            data.setup("fit")  # Lightning sets up other data modules itself, after calling prepare_data
    description = describe(data)
    import_class(experiment.stage.class_path).check_data(experiment, description)
    return data, description


def autoencoder_attribution(experiment: AnyExperiment) -> str:
    """Return the attribution that a run owes for the weights of its frozen autoencoder, or "" if none is required."""
    if isinstance(experiment, AutoencoderExperiment):
        return ""
    cls = import_class(experiment.autoencoder.class_path)
    credited = cls.attribution(experiment.autoencoder.init_args) if issubclass(cls, FrozenModule) else None
    return credited or ""


@contextlib.contextmanager
def warnings_disabled() -> Iterator[None]:
    """Disable log messages up to the level WARNING, because the first process prints the same messages."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def build_logger(
    experiment: AnyExperiment, folder: RunFolder, stage: LightningModule, fingerprint: str | None, repeats_steps: bool
) -> RunLogger:
    """Build the logger of a run."""
    return RunLogger(
        folder.path,
        experiment.tracking.uri,
        experiment.tracking.project,
        fingerprint,
        # Lightning counts batches under manual optimization and optimizer steps under automatic optimization.
        batches_per_step=1 if stage.automatic_optimization else experiment.training.accumulate,
        repeats_steps=repeats_steps,
        others=experiment.tracking.also,
    )


def fit(
    trainer: Trainer, stage: LightningModule, data: LightningDataModule, checkpoint: Path | None, folder: RunFolder
) -> None:
    """Call ``Trainer.fit``, and raise known failures as errors with a one-line message.

    Raises:
        RunError: Memory ran out, the connection to another process was lost, the checkpoint does not match the network,
            or the run was interrupted.
    """
    os.environ[FOLDER_VARIABLE] = str(folder.path.resolve())
    keep_freed_memory()
    try:
        trainer.fit(stage, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of memory at step {trainer.global_step}: {str(error).splitlines()[0]} Try a smaller "
            "data.init_args.batch_size with training.accumulate, or training.gradient_checkpointing=true"
        ) from error
    except RuntimeError as error:
        if "killed by signal: Terminated" in str(error):  # SIGTERM to the process group also kills data workers
            raise interrupted(trainer, folder) from None
        if isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error):
            raise RunError(
                f"step {trainer.global_step}: the connection to another process of the run was lost. That process has "
                f"probably failed and printed the reason. Resume with {resume_option(folder)}"
            ) from error
        if "loading state_dict" not in str(error):
            raise
        raise RunError(
            f"{checkpoint} does not match the configured network; start a new run without --resume"
        ) from error
    except (SystemExit, KeyboardInterrupt):  # Lightning's response to Ctrl-C and SIGTERM
        raise interrupted(trainer, folder) from None
    finally:
        os.environ.pop(FOLDER_VARIABLE, None)


def interrupted(trainer: Trainer, folder: RunFolder) -> RunInterruptedError:
    """Return the error for an interrupted run."""
    return RunInterruptedError(f"interrupted at step {trainer.global_step}; resume with {resume_option(folder)}")


def require_steps_left(folder: RunFolder, checkpoint: Path, max_steps: int) -> None:
    """Raise ``ConfigError`` if a run has already trained for more steps than configured."""
    step = checkpoint_step(checkpoint)
    if step > max_steps:
        raise ConfigError(
            f"training.max_steps is {max_steps}, but {folder.name} is already at step {step}; increase max_steps"
        )


def prepare_attempt(folder: RunFolder, checkpoint: Path | None, data: LightningDataModule) -> None:
    """Print which state of a resumed run is not restored. Without a checkpoint, set the earlier results aside."""
    if checkpoint is None:
        kept = folder.set_results_aside()
        results = f"; the results of the earlier attempt are now in {kept}" if kept else ""
        print(f"note: {folder.name} has no checkpoint; it starts again at step 0{results}")
    elif not isinstance(data, DescribedData):
        print(
            f"note: {type(data).__name__} does not save its position in the data, so the resumed run uses the samples "
            "in a different order than an uninterrupted run"
        )


def print_unfinished_parents(experiment: AnyExperiment) -> None:
    """Print a note for every parent that has not finished training."""
    for parent in lineage.unfinished(experiment):
        print(f"note: {parent} has not finished training; its current weights are used")


def print_report(folder: RunFolder, experiment: AnyExperiment, seconds: float) -> None:
    """Print the paths of the results and the commands to run next."""
    previews = sorted(folder.samples.glob("*.png"))
    print(f"\nfinished {folder.name} in {seconds / 60:.1f} min")
    if previews:
        print(f"  samples  {previews[-1]}")
    print(f"  weights  {folder.weights}")
    print(f"  next     {experiment.next_command(folder.name)}")
    print("           lightning ui")

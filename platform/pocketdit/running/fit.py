"""``lightning run``: a configuration to a trained network in its run folder."""

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from pocketdit.artifacts import run_folder
from pocketdit.artifacts.run_folder import FOLDER_VARIABLE, RunFolder, inherited_folder, launched_rank, leads
from pocketdit.config.experiment import BaseExperiment, DecoderExperiment, Experiment
from pocketdit.config.load import Loaded, load
from pocketdit.errors import ConfigError, RunError, Stopped
from pocketdit.files import write_atomically
from pocketdit.running import lineage
from pocketdit.running.assemble import build_data, build_encoders, build_stage
from pocketdit.running.callbacks import (
    Elapsed,
    PictureGrids,
    Progress,
    ReconstructionGrids,
    SampleGrids,
    TrainMetrics,
)
from pocketdit.running.checkpointing import AtomicCheckpointIO, Checkpoints
from pocketdit.running.cost_estimate import parameters_by_width
from pocketdit.running.decoder_cost import decoder_parameters
from pocketdit.running.decoders import build_decoder_stage, require_images
from pocketdit.running.lineage import differences
from pocketdit.tracking.logger import RunLogger
from pocketdit.training.precision import resolve_precision

# What a resumed run may change without being asked whether it is meant.
FREE_KEYS = ("training.log_every", "training.validate_every", "training.checkpoint_every", "training.sample_every",
             "training.compile", "training.gradient_checkpointing", "sampling", "tracking", "data.init_args.workers",
             "runs", "stage.init_args.teacher.init_args.runs")  # fmt: skip


def run(
    loaded: Loaded,
    resume: str | None,
    name: str | None,
    allow_changes: bool,
    callbacks: Sequence[Callback] = (),
    tags: Mapping[str, str] | None = None,
) -> RunFolder:
    """Train, from the start or from a run's last checkpoint. Returns the run folder.

    ``resume``: None starts a new run; "" goes on with the experiment's latest; otherwise a run by name or path.
    ``callbacks``: beside the run's own. ``tags``: for MLflow, beside the run's own.
    """
    found = find_run(loaded.config, resume)
    with contextlib.ExitStack() as holding:
        if found is not None and leads():
            holding.enter_context(run_folder.lock(found))
        begun = found or inherited_folder()
        recorded = None if begun is None else load(begun.config, [], type(loaded.config))
        loaded = lineage.pin(loaded, recorded.config.parents if recorded else {})
        experiment: BaseExperiment = loaded.config
        if found is not None and recorded is not None and not inherited_folder():
            refuse_changes(recorded.resolved, loaded.resolved, found, allow_changes)
            take_up(found)
        if found is not None and found.finished_steps() >= experiment.training.max_steps:
            print(f"{found.name} is finished already. A new run: the same command without --resume.")
            return found
        # Lightning's tips and its list of devices, which the run's own lines replace.
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        # Everything that can be wrong with the configuration is found before a folder is made.
        require_accelerator(experiment.training.accelerator)
        data = build_data(experiment)
        data.allow_changes = allow_changes or data.allow_changes
        data.setup()
        require_same_autoencoder(experiment, data)
        stage = build_run(experiment, data)
        folder = found or new_folder(experiment, loaded, name)
        if found is None and leads():
            holding.enter_context(run_folder.lock(folder))
        checkpoint = folder.checkpoint if found is not None and folder.checkpoint.exists() else None
        if found is not None and checkpoint is None and leads():
            print(f"note: {folder.name} has no checkpoint yet: it begins at step 0")
        logger = RunLogger(
            folder.path,
            experiment.tracking.uri,
            experiment.tracking.project,
            data.fingerprint,
            batches_per_step=experiment.training.accumulate,
        )
        trainer = build_trainer(experiment, folder, logger, loaded.to_yaml(), callbacks)
        logger.log_hyperparams(loaded.resolved)
        known = {"parameters": sizes(experiment), **lineage.verify(folder, experiment), **(tags or {})}
        for name, value in known.items():
            logger.log_tag(name, value)
        if trainer.is_global_zero:
            for name in lineage.unfinished(experiment):
                print(f"note: {name} has not finished its training; its weights are taken as they are now")
        began = time.perf_counter()
        fit(trainer, stage, data, checkpoint, folder)
        if trainer.is_global_zero:
            finish(folder, logger, trainer.global_step)
            report(folder, experiment, time.perf_counter() - began)
        return folder


def build_run(experiment: BaseExperiment, data: LightningDataModule) -> LightningModule:
    """The stage of a run of either kind, with the frozen networks that it needs."""
    if isinstance(experiment, DecoderExperiment):
        require_images(experiment, data)
        return build_decoder_stage(experiment)
    assert isinstance(experiment, Experiment)
    return build_stage(experiment, build_encoders(experiment))


def fit(
    trainer: Trainer, stage: LightningModule, data: LightningDataModule, checkpoint: Path | None, folder: RunFolder
) -> None:
    """``Trainer.fit``, whose every known failure is one line. Raises ``RunError``."""
    os.environ[FOLDER_VARIABLE] = str(folder.path.resolve())
    try:
        trainer.fit(stage, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of memory at step {trainer.global_step}: {str(error).splitlines()[0]} Try a smaller "
            f"data.init_args.batch_size with training.accumulate, or training.gradient_checkpointing=true"
        ) from error
    except RuntimeError as error:
        if "killed by signal: Terminated" in str(error):  # SIGTERM to all processes reaches the data workers as well
            raise Stopped(f"stopped at step {trainer.global_step}; go on with --resume {folder.name}") from None
        if "loading state_dict" not in str(error):
            raise
        raise RunError(f"{checkpoint} was written by another network than this configuration's") from error
    except (SystemExit, KeyboardInterrupt):  # Lightning turns Ctrl-C and SIGTERM into these
        raise Stopped(f"stopped at step {trainer.global_step}; go on with --resume {folder.name}") from None
    finally:
        os.environ.pop(FOLDER_VARIABLE, None)


def finish(folder: RunFolder, logger: RunLogger, step: int) -> None:
    """Weights to MLflow and the mark that there is nothing left to go on with."""
    logger.log_artifact(folder.weights)
    logger.log_artifact(folder.config)
    logger.finalize("success")
    write_atomically(folder.finished, f"{step}\n")


def require_accelerator(wanted: str) -> None:
    """Raises ``ConfigError`` where the machine has none of the kind."""
    there = {"gpu": torch.accelerator.is_available, "mps": torch.mps.is_available}
    if wanted in there and not there[wanted]():
        raise ConfigError(f"training.accelerator: this machine has no {wanted} that torch {torch.__version__} can use")


def require_same_autoencoder(experiment: BaseExperiment, data: LightningDataModule) -> None:
    """Stored latents must come from the autoencoder that decodes the samples."""
    stored = getattr(data.info, "autoencoder", None)
    if stored and stored["class"] != experiment.autoencoder.class_path:
        raise ConfigError(
            f"autoencoder: the data set's latents come from {stored['class']}, not {experiment.autoencoder.class_path}"
        )


def find_run(experiment: BaseExperiment, resume: str | None) -> RunFolder | None:
    """The run to go on with; None for a new one."""
    if resume is None:
        return None
    if inherited := inherited_folder():
        return inherited
    with contextlib.suppress(RunError) if resume == "" else contextlib.nullcontext():
        return run_folder.find(Path(experiment.runs), resume or experiment.experiment)
    return None


def take_up(folder: RunFolder) -> None:
    """Clean a run that is gone on with of what a killed process left, and make it the latest."""
    if launched_rank() == 0:
        folder.clean()
        run_folder.point_latest_at(folder)


def new_folder(experiment: BaseExperiment, loaded: Loaded, name: str | None) -> RunFolder:
    """A new run's folder, made by the first process and taken over by the others."""
    if inherited := inherited_folder():
        return inherited
    runs, new = Path(experiment.runs), name or launcher_name()
    if launched_rank() > 0 and new:
        return RunFolder(runs / experiment.experiment / new)
    return run_folder.create(runs, experiment.experiment, new, loaded.to_yaml())


def launcher_name() -> str | None:
    """A run name that all processes of an external launcher agree on (torchrun, srun); None outside one."""
    if int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1) < 2:
        return None
    for variable in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        value = os.environ.get(variable)
        if value and value != "none":
            return f"{variable.split('_')[0].lower()}-{value}"
    raise ConfigError("several processes were launched from outside: give the run a --name that all of them share")


def refuse_changes(before: dict[str, Any], now: dict[str, Any], folder: RunFolder, allow: bool) -> None:
    """A resumed run must go on with what it began with, except where a change cannot alter the steps."""
    free = (*FREE_KEYS, "training.max_steps") if now["training"]["decay"] == "constant" else FREE_KEYS
    changed = {
        key: f"{key} from {old} to {new}"
        for key, (old, new) in differences(before, now).items()
        if not any(key == name or key.startswith(f"{name}.") for name in free)
    }
    ours = ("optimizer", "backbone", "decoder", "parents")
    if fixed := [text for key, text in changed.items() if key.startswith(ours)]:
        raise ConfigError(f"{folder.name} cannot go on with another {'; '.join(fixed)}: start a new run")
    if changed and not allow:
        raise ConfigError(
            f"{folder.name} was begun with another configuration: {'; '.join(changed.values())}. "
            f"Start a new run without --resume, or add --allow-changes if you mean it"
        )


def build_trainer(
    experiment: BaseExperiment,
    folder: RunFolder,
    logger: RunLogger,
    config: str,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    spec = experiment.training
    plugins: list[Any] = [] if spec.strategy == "fsdp2" else [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        # Lightning's own requeueing writes checkpoints of another kind; --resume in the job script does the same.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return Trainer(
        accelerator=spec.accelerator,
        devices=devices(spec.devices, spec.accelerator),
        num_nodes=spec.nodes,
        strategy=strategy(experiment),
        precision=resolve_precision(spec.precision, spec.accelerator),
        max_steps=spec.max_steps,
        logger=logger,
        callbacks=[
            Progress(f"{folder.name}: {sizes(experiment)}"),
            TrainMetrics(spec.log_every * spec.accumulate),
            Elapsed(spec.log_every * 5),
            picture_grids(experiment, folder),
            Checkpoints(folder, spec.checkpoint_every, config),
            *callbacks,
        ],
        plugins=plugins,
        val_check_interval=spec.validate_every * spec.accumulate if spec.validate_every else None,
        check_val_every_n_epoch=None,
        limit_val_batches=None if spec.validate_every else 0,
        log_every_n_steps=spec.log_every * spec.accumulate,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
    )


def devices(wanted: int | str, accelerator: str) -> int | str:
    """All GPUs, but one process on a CPU, where more would only share its cores."""
    on_cpu = accelerator == "cpu" or not torch.accelerator.is_available()
    return 1 if wanted == "auto" and on_cpu else wanted


def strategy(experiment: BaseExperiment) -> Strategy | str:
    match experiment.training.strategy:
        case "fsdp2":
            # Left to itself, Lightning takes the devices of a node as tensor-parallel ranks.
            count = devices(experiment.training.devices, experiment.training.accelerator)
            ranks = (count if isinstance(count, int) else torch.accelerator.device_count()) * experiment.training.nodes
            return ModelParallelStrategy(data_parallel_size=ranks, tensor_parallel_size=1)
        case "ddp":
            return DDPStrategy(find_unused_parameters=True)
        case _:
            several = experiment.training.nodes > 1 or (
                devices(experiment.training.devices, experiment.training.accelerator) != 1
                and (experiment.training.devices != "auto" or torch.cuda.device_count() > 1)
            )
            # A step uses one sub-network: the tables of the others get no gradient.
            return DDPStrategy(find_unused_parameters=True) if several else "auto"


def picture_grids(experiment: BaseExperiment, folder: RunFolder) -> PictureGrids:
    if isinstance(experiment, Experiment):
        return SampleGrids(folder, experiment.training.sample_every, experiment.sampling)
    return ReconstructionGrids(folder, experiment.training.sample_every)


def sizes(experiment: BaseExperiment) -> str:
    """Parameters of the decoder, or of every width, in a line."""
    if isinstance(experiment, DecoderExperiment):
        return f"{decoder_parameters(experiment.decoder) / 1e6:.3g} M parameters"
    assert isinstance(experiment, Experiment)
    counts = parameters_by_width(experiment.backbone)
    return ", ".join(f"{width:g}x {count / 1e6:.2f} M" for width, count in counts.items()) + " parameters"


def report(folder: RunFolder, experiment: BaseExperiment, seconds: float) -> None:
    pictures = sorted(folder.samples.glob("*.png"))
    print(f"\nfinished {folder.name} in {seconds / 60:.1f} min")
    if pictures:
        print(f"  samples  {pictures[-1]}")
    print(f"  weights  {folder.weights}")
    if isinstance(experiment, Experiment):
        print(f'  next     lightning sample {folder.name} "{experiment.sampling.prompts[0]}"')
    else:
        print(f'  next     lightning sample RUN "a prompt" --decoder {folder.name}')
    print("           lightning ui")

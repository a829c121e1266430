"""``lightning run``: a configuration to a trained network in its run folder."""

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from elastic_dit.config.experiment import Experiment
from elastic_dit.config.load import Loaded, load
from elastic_dit.errors import ConfigError, RunError, UserError
from elastic_dit.files import write_atomically
from elastic_dit.tracking.logger import RunLogger
from elastic_dit.training import run_folder
from elastic_dit.training.assemble import build_data, build_encoders, build_stage
from elastic_dit.training.callbacks import Elapsed, Progress, SampleGrids
from elastic_dit.training.checkpointing import AtomicCheckpointIO, Checkpoints
from elastic_dit.training.plan import parameters_by_width
from elastic_dit.training.run_folder import RunFolder

# The launcher's child processes find the first process's run folder here.
FOLDER_VARIABLE = "ELASTIC_DIT_RUN_FOLDER"
# What a resumed run may change without being asked whether it is meant.
FREE_KEYS = ("training.max_steps", "training.log_every", "training.validate_every", "training.checkpoint_every",
             "training.sample_every", "training.devices", "training.compile", "training.gradient_checkpointing",
             "sampling", "tracking", "data.init_args.workers", "runs")  # fmt: skip


def run(loaded: Loaded, resume: str | None, name: str | None, allow_changes: bool) -> RunFolder:
    """Train, from the start or from a run's last checkpoint. Returns the run folder.

    ``resume``: None starts a new run; "" goes on with the experiment's latest; otherwise a run by name or path.
    """
    experiment: Experiment = loaded.config
    folder, checkpoint = prepare_folder(loaded, experiment, resume, name, allow_changes)
    if folder.finished.is_file() and int(folder.finished.read_text()) >= experiment.training.max_steps:
        print(f"{folder.name} is finished already. A new run: the same command without --resume.")
        return folder
    # Lightning's tips and its list of devices, which the run's own lines replace.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    began = time.perf_counter()
    data = build_data(experiment)
    if allow_changes:
        data.allow_changes = True
    data.setup()
    logger = RunLogger(folder.path, experiment.tracking.uri, experiment.tracking.project, data.fingerprint)
    logger.log_hyperparams(loaded.resolved)
    logger.log_tag("parameters", sizes(experiment))
    trainer, stage = build_trainer(experiment, folder, logger)
    os.environ[FOLDER_VARIABLE] = str(folder.path.resolve())
    try:
        trainer.fit(stage, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except UserError:
        raise
    except KeyboardInterrupt:
        raise RunError(f"stopped at step {trainer.global_step}; go on with --resume {folder.name}") from None
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of memory at step {trainer.global_step}: {str(error).splitlines()[0]} Try a smaller "
            f"data.init_args.batch_size with training.accumulate, or training.gradient_checkpointing=true"
        ) from error
    finally:
        os.environ.pop(FOLDER_VARIABLE, None)
    if trainer.interrupted:
        raise RunError(f"stopped at step {trainer.global_step}; go on with --resume {folder.name}")
    if trainer.is_global_zero:
        report(folder, experiment, time.perf_counter() - began)
    return folder


def prepare_folder(
    loaded: Loaded, experiment: Experiment, resume: str | None, name: str | None, allow_changes: bool
) -> tuple[RunFolder, Path | None]:
    """The run folder, made or found, and the checkpoint to go on from, if any."""
    if inherited := os.environ.get(FOLDER_VARIABLE):
        folder = RunFolder(Path(inherited))
        return folder, last_checkpoint(folder, resume)
    runs = Path(experiment.runs)
    found: RunFolder | None = None
    if resume is not None:
        with contextlib.suppress(RunError) if resume == "" else contextlib.nullcontext():
            found = run_folder.find(runs, resume or experiment.experiment)
    if found is None:
        new = name or launcher_name()
        if launched_rank() > 0 and new:
            return RunFolder(runs / experiment.experiment / new), None
        return run_folder.create(runs, experiment.experiment, new, loaded.to_yaml()), None
    refuse_changes(load(found.config, [], Experiment).resolved, loaded.resolved, found, allow_changes)
    if launched_rank() == 0:
        write_atomically(found.config, loaded.to_yaml())
        run_folder.point_latest_at(found)
    return found, last_checkpoint(found, resume)


def last_checkpoint(folder: RunFolder, resume: str | None) -> Path | None:
    return folder.checkpoint if resume is not None and folder.checkpoint.exists() else None


def launched_rank() -> int:
    """This process's rank under an external launcher; 0 outside one."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def launcher_name() -> str | None:
    """A run name that all processes of an external launcher agree on (torchrun, SLURM); None outside one."""
    for variable in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        value = os.environ.get(variable)
        if value and value != "none":
            return f"{variable.split('_')[0].lower()}-{value}"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ:
        raise ConfigError("several processes were launched from outside: give the run a --name that all of them share")
    return None


def refuse_changes(before: dict[str, Any], now: dict[str, Any], folder: RunFolder, allow: bool) -> None:
    """A resumed run must go on with what it began with, except where a change cannot alter the steps."""
    changed = [
        f"{key} from {old} to {new}"
        for key, (old, new) in differences(before, now).items()
        if not any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)
    ]
    if changed and not allow:
        raise ConfigError(
            f"{folder.name} was begun with another configuration: {'; '.join(changed)}. "
            f"Start a new run without --resume, or add --allow-changes if you mean it"
        )


def differences(a: Any, b: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in [*a, *(n for n in b if n not in a)]:
            found |= differences(a.get(name), b.get(name), f"{key}.{name}" if key else str(name))
        return found
    return {} if a == b else {key: (a, b)}


def build_trainer(experiment: Experiment, folder: RunFolder, logger: RunLogger) -> tuple[Trainer, LightningModule]:
    spec = experiment.training
    encoders = build_encoders(experiment)
    trainer = Trainer(
        accelerator=spec.accelerator,
        devices=devices(spec.devices, spec.accelerator),
        num_nodes=spec.nodes,
        strategy=strategy(experiment),
        precision=precision(spec.precision, spec.accelerator),
        max_steps=spec.max_steps,
        logger=logger,
        callbacks=[
            Progress(f"{folder.name}: {sizes(experiment)}"),
            Elapsed(spec.log_every * 5),
            SampleGrids(folder, experiment.sampling, spec.sample_every),
            Checkpoints(folder, spec.checkpoint_every),
        ],
        plugins=[AtomicCheckpointIO()] if spec.strategy != "fsdp2" else None,
        val_check_interval=spec.validate_every * spec.accumulate if spec.validate_every else None,
        check_val_every_n_epoch=None,
        limit_val_batches=None if spec.validate_every else 0,
        log_every_n_steps=spec.log_every,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
    )
    stage = build_stage(experiment, encoders)
    if spec.compile:
        stage.backbone.compile()  # type: ignore[operator, union-attr]
    return trainer, stage


def devices(wanted: int | str, accelerator: str) -> int | str:
    """All GPUs, but one process on a CPU, where more would only share its cores."""
    on_cpu = accelerator == "cpu" or not torch.accelerator.is_available()
    return 1 if wanted == "auto" and on_cpu else wanted


def precision(wanted: str, accelerator: str) -> Any:
    """bf16 on a GPU, full precision on a CPU, where bf16 is slower for small networks."""
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if accelerator != "cpu" and torch.cuda.is_available() else "32-true"


def strategy(experiment: Experiment) -> Strategy | str:
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


def sizes(experiment: Experiment) -> str:
    """Parameters of every width, in a line."""
    counts = parameters_by_width(experiment.backbone)
    return ", ".join(f"{width:g}x {count / 1e6:.2f} M" for width, count in counts.items()) + " parameters"


def report(folder: RunFolder, experiment: Experiment, seconds: float) -> None:
    pictures = sorted(folder.samples.glob("*.png"))
    print(f"\nfinished {folder.name} in {seconds / 60:.1f} min")
    if pictures:
        print(f"  samples  {pictures[-1]}")
    print(f"  weights  {folder.weights}")
    print(f'  next     lightning sample {folder.name} "{experiment.sampling.prompts[0]}"')
    print("           lightning ui")

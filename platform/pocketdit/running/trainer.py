"""Builds Lightning's trainer for a run."""

from collections.abc import Sequence
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.config.experiment import AnyExperiment, Training
from pocketdit.running.accumulation import BatchCounters, StepMeans
from pocketdit.running.callbacks import MeasureForms, Previews, Progress, TrainMetrics, ValidationNote
from pocketdit.running.checkpointing import AtomicCheckpointIO, Checkpoints, RequireFolder
from pocketdit.running.cost_estimate import parameter_summary
from pocketdit.running.processes import devices_per_node
from pocketdit.running.sharded_strategy import ShardedStrategy
from pocketdit.running.speed import DataWait, Speed
from pocketdit.tracking.logger import RunLogger
from pocketdit.training.precision import resolve_precision


def build_trainer(
    experiment: AnyExperiment,
    stage: LightningModule,
    folder: RunFolder,
    logger: RunLogger,
    config: str,
    callbacks: Sequence[Callback] = (),
    splits_data: bool = True,
) -> Trainer:
    """Build the trainer of a run.

    Args:
        experiment: The configuration.
        stage: The stage. If it uses automatic optimization, Lightning accumulates and clips the gradients.
        folder: The run folder.
        logger: The run's logger.
        config: The resolved configuration as YAML.
        callbacks: Callbacks in addition to those that every run has.
        splits_data: Whether the data module splits the samples across ranks. If not, Lightning splits them.
    """
    training = experiment.training
    automatic = stage.automatic_optimization
    plugins: list[Any] = [AtomicCheckpointIO()]
    means, wait = StepMeans(), DataWait()
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        # Lightning's requeueing would write its own checkpoints. --resume in the job script serves the same purpose.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return Trainer(
        accelerator=training.accelerator,
        devices=devices_per_node(training),
        num_nodes=training.nodes,
        strategy=build_strategy(training),
        precision=resolve_precision(training.precision, training.accelerator),
        max_steps=training.max_steps,
        logger=logger,
        callbacks=[
            RequireFolder(folder),
            BatchCounters(training.accumulate),
            means,
            Progress(f"{folder.name}: {parameter_summary(experiment)}", means),
            ValidationNote(),
            *([MeasureForms()] if training.attention_forms == "measured" else []),
            TrainMetrics(training.log_every, means),
            Speed(training.log_every * 5, wait, experiment),
            Previews(folder, training.sample_every),
            Checkpoints(folder, training.checkpoint_every, config),
            *callbacks,
        ],
        plugins=plugins,
        profiler=wait,
        val_check_interval=training.validate_every * training.accumulate if training.validate_every else None,
        check_val_every_n_epoch=None,
        limit_val_batches=None if training.validate_every else 0,
        log_every_n_steps=training.log_every * training.accumulate,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=training.accumulate if automatic else 1,
        gradient_clip_val=training.clip_norm if automatic else None,
        use_distributed_sampler=not splits_data,
        default_root_dir=folder.path,
    )


def build_strategy(training: Training) -> Strategy | str:
    """Return the Lightning strategy that the configuration selects."""
    devices, nodes = devices_per_node(training), training.nodes
    processes = devices * nodes
    match training.strategy:
        case "fsdp2":
            return ShardedStrategy(training.sharding, processes, training.sharding.group_size(devices, nodes))
        case "ddp":
            return DDPStrategy(find_unused_parameters=True)
        case _:
            # A step trains one sub-network, so the modulation tables of the other sub-networks receive no gradient.
            return DDPStrategy(find_unused_parameters=True) if processes > 1 else "auto"

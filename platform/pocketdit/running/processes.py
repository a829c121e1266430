"""Checks that all processes of a run exist or can be started. A run would wait forever for a missing process."""

import os
import sys

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from pocketdit.artifacts.run_folder import environment_number, inherited_folder
from pocketdit.config.experiment import Training
from pocketdit.counts import counted
from pocketdit.errors import ConfigError
from pocketdit.progress import in_notebook
from pocketdit.training.precision import resolve_precision

# Environment variables with the number of processes that MPI, PMI, or LSF started. Several such processes are not
# supported.
MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "JSM_NAMESPACE_SIZE")
# Environment variables that users set to start the processes of several nodes by hand.
NODE_RANKS = ("NODE_RANK", "GROUP_RANK")
# Two processes may share a core, so that distributed training can be tried anywhere.
LEAST_PROCESSES = 2


def devices_per_node(training: Training) -> int:
    """Return the number of processes per node. "auto" means one per GPU, or one process on a CPU."""
    if training.devices != "auto":
        return training.devices
    return 1 if trains_on_cpu(training) else max(1, torch.accelerator.device_count())


def trains_on_cpu(training: Training) -> bool:
    """Return whether a run trains on the CPU of this machine."""
    return training.accelerator == "cpu" or not torch.accelerator.is_available()


def require_accelerator(accelerator: str) -> None:
    """Raise ``ConfigError`` if torch cannot use the accelerator on this machine."""
    available = {"gpu": torch.accelerator.is_available, "mps": torch.mps.is_available}
    if accelerator in available and not available[accelerator]():
        raise ConfigError(
            f"training.accelerator: this machine has no {accelerator} that torch {torch.__version__} can use; "
            "set it to auto or cpu"
        )


def require_processes(training: Training) -> None:
    """Check that the launcher has started as many processes as configured, or that this machine can run them.

    Raises:
        ConfigError: Processes are missing, or there are more processes than devices.
    """
    devices = devices_per_node(training)
    training.sharding.group_size(devices, training.nodes)
    bf16 = resolve_precision(training.precision, training.accelerator) == "bf16-mixed"
    if training.sharding.weights == "bfloat16" and not bf16:
        raise ConfigError(
            "training.sharding.weights: bfloat16 requires bf16 precision, which is not the default on this machine; "
            "set training.precision=bf16-mixed"
        )
    if inherited_folder():
        return  # the process that started this one has already made the remaining checks
    if devices * training.nodes > 1 and in_notebook():
        raise ConfigError(
            f"training.devices: a notebook can only train in one process, but {devices} are configured per node; set "
            "it to 1, or use lightning run"
        )
    require_devices(training, devices)
    started, configured = launched_processes(), devices * training.nodes
    if started is not None and started != configured:
        raise ConfigError(
            f"training.devices: {devices} per node and training.nodes={training.nodes} require "
            f"{counted(configured, 'process', 'processes')}, but the launcher has started {started}; set both to match "
            "the launcher"
        )
    variable = "LOCAL_WORLD_SIZE" if "RANK" in os.environ else "SLURM_NTASKS_PER_NODE"
    if started is not None and (per_node := environment_number(variable)) not in (None, devices):
        raise ConfigError(
            f"training.devices is {devices}, but the launcher has started {per_node} per node ({variable}); set it to "
            f"{per_node}, and training.nodes to {started // per_node}"
        )
    if started is None and training.nodes > 1 and not any(name in os.environ for name in NODE_RANKS):
        raise ConfigError(
            f"training.nodes is {training.nodes}, but no launcher has started the other nodes; start the command with "
            "torchrun or srun"
        )


def require_devices(training: Training, devices: int) -> None:
    """Raise ``ConfigError`` if this machine cannot run as many processes as are configured per node."""
    if trains_on_cpu(training):
        cores = usable_cores()
        limit, available = max(cores, LEAST_PROCESSES), counted(cores, "CPU core")
    else:
        limit = torch.accelerator.device_count()
        available = counted(limit, "GPU")
    if devices > limit:
        raise ConfigError(
            f"training.devices is {devices}, but the run can only use {available} on this machine; set it to at most "
            f"{limit}"
        )


def usable_cores() -> int:
    """Return the number of CPU cores on which this process may run."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def launched_processes() -> int | None:
    """Return the number of processes that torchrun or srun has started, or None without a launcher.

    Raises:
        ConfigError: The processes were started by another launcher, or a SLURM job does not use srun or does not set
            ``--ntasks-per-node``.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return environment_number("WORLD_SIZE")
    if SLURMEnvironment.detect():
        tasks = environment_number("SLURM_NTASKS") or 1
        if tasks > 1 and "SLURM_STEP_ID" not in os.environ:
            raise ConfigError(f"this job has {tasks} tasks, but only one process was started; start it with srun")
        if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise ConfigError("the job does not set the number of tasks per node; use --ntasks-per-node, not --ntasks")
        return tasks
    for name in MPI_SIZES:
        if os.environ.get(name, "1") != "1":
            raise ConfigError(
                f"{name}={os.environ[name]}: several processes were started by MPI, which is not supported; start the "
                "command with torchrun or srun"
            )
    return None

"""The cost estimate of a run, which ``lightning run FILE --plan`` prints.

If a step is small enough for this machine's CPU or GPU, it is timed there. Otherwise, its FLOPs and memory are counted
on the meta device, and its time is predicted for several GPUs.
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

import torch
from tabulate import tabulate

from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.config.experiment import (
    AnyExperiment,
    AutoencoderExperiment,
    DecoderExperiment,
    Experiment,
    Training,
)
from pocketdit.config.importing import import_class
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.running.data import describe_unopened
from pocketdit.running.processes import devices_per_node, trains_on_cpu
from pocketdit.running.program_memory import program_memory
from pocketdit.stages.frozen_cost import without_stored
from pocketdit.training.cost import StageCost, count_parameters, parameters_by_width
from pocketdit.training.gpus import GPUS, Gpu
from pocketdit.training.precision import resolve_precision
from pocketdit.training.roofline import Cluster
from pocketdit.training.step_count import StepCount, count_step, measure_step

META = torch.device("meta")
# On a CPU, a step is timed only if one batch needs fewer FLOPs than this, by a rough estimate.
MAX_MEASURED_FLOPS = 2e12
# On a GPU, a step is timed only if it needs less than this fraction of the memory.
MAX_MEASURED_MEMORY = 0.9


def parameter_counts(experiment: AnyExperiment) -> dict[str, int]:
    """Return the parameter count of each width, of the decoder, or of the autoencoder, keyed by a label."""
    match experiment:
        case Experiment():
            return {f"{width:g}x": count for width, count in parameters_by_width(experiment.backbone).items()}
        case DecoderExperiment():
            with torch.device("meta"):
                return {"decoder": count_parameters(TinyDecoder(experiment.decoder))}
        case AutoencoderExperiment():
            with torch.device("meta"):
                return {"autoencoder": count_parameters(ConvAutoencoder(experiment.architecture))}
        case _:
            assert_never(experiment)


def parameter_summary(experiment: AnyExperiment) -> str:
    """Return the parameter counts as one line of text."""
    counts = parameter_counts(experiment)
    return ", ".join(f"{label} {millions(count)}" for label, count in counts.items()) + " parameters"


def millions(count: int) -> str:
    """Format a count in millions, with three significant digits below a billion and without decimals above."""
    return f"{count / 1e6:.3g} M" if count < 1e9 else f"{count / 1e6:.0f} M"


def cost_estimate(experiment: AnyExperiment) -> str:
    """Return the cost estimate of a run as text."""
    training = experiment.training
    batch = int(experiment.data.init_args.get("batch_size", 1)) * training.accumulate
    title = f"{experiment.experiment}: {training.max_steps} steps of {batch} samples per process"
    cost = stage_cost(experiment)
    if cost is None:
        return f"{title}\n\n  {parameter_summary(experiment)}"
    cluster = cluster_of(training)
    count, device, seconds = counted_step(cost, training)
    times = predicted_times(count, cluster, training) if seconds is None else measured_time(seconds, batch, training)
    memory = process_memory(experiment, count, cluster, device)
    tables = [pass_table(count), memory_table(memory, cluster), time_table(count, training, times)]
    return "\n\n".join([f"{title}, {cost.image_size}x{cost.image_size} pixels", *map(indent, tables)])


def stage_cost(experiment: AnyExperiment) -> StageCost | None:
    """Return the cost of a step on the run's data set, or None if the stage provides no estimate."""
    cost: StageCost | None = import_class(experiment.stage.class_path).cost(experiment)
    return cost and without_stored(cost, describe_unopened(experiment))


def counted_step(cost: StageCost, training: Training) -> tuple[StepCount, torch.device | None, float | None]:
    """Count the FLOPs and memory of a step. If this machine can time it, also return the device and the time in s."""
    device = measuring_device(cost, training)
    if device is None:
        return count_step(cost, META, bf16=training.precision != "32-true"), None, None
    bf16 = resolve_precision(training.precision, training.accelerator) == "bf16-mixed"
    count, seconds = measure_step(cost, device, bf16, training.accumulate)
    return count, device, seconds


def estimated_memory(experiment: AnyExperiment) -> int:
    """Return the estimated memory of a process in bytes, or 0 if the stage provides no estimate."""
    cost = stage_cost(experiment)
    if cost is None:
        return 0
    count, device, _ = counted_step(cost, experiment.training)
    return sum(process_memory(experiment, count, cluster_of(experiment.training), device).values())


def cluster_of(training: Training) -> Cluster:
    """Return the cluster of processes that a run is configured for."""
    devices, sharding = devices_per_node(training), training.sharding
    return Cluster(
        processes=devices * training.nodes,
        nodes=training.nodes,
        sharded=training.strategy == "fsdp2",
        group=sharding.group_size(devices, training.nodes),
        weight_bytes=2 if sharding.weights == "bfloat16" else 4,
        gradient_bytes=2 if sharding.gradients == "bfloat16" else 4,
    )


def measuring_device(cost: StageCost, training: Training) -> torch.device | None:
    """Return the device of this machine on which a step can be timed, or None if the step is too large for it."""
    if trains_on_cpu(training):
        return torch.device("cpu") if cost.rough_flops() < MAX_MEASURED_FLOPS else None
    if not torch.cuda.is_available():
        return None
    needed = sum(count_step(cost, META, bf16=training.precision != "32-true").memory(Cluster()).values())
    return torch.device("cuda") if needed < MAX_MEASURED_MEMORY * torch.cuda.mem_get_info()[1] else None


def pass_table(count: StepCount) -> str:
    """Return a table of the passes through networks that each batch requires."""
    rows = [
        [
            step.label,
            millions(step.parameters),
            f"{step.per_batch:.3g}",
            f"{counted.flops / count.cost.batch / 1e9:.2f} G",
            mebibytes(counted.saved) if step.trained else "",
        ]
        for step, counted in count.passes
    ]
    headers = ["pass", "parameters", "per batch", "FLOPs per sample", "activations"]
    return tabulate(rows, headers, colalign=("left", *["right"] * 4), disable_numparse=True)


def process_memory(
    experiment: AnyExperiment, count: StepCount, cluster: Cluster, device: torch.device | None
) -> dict[str, int]:
    """Return the memory of a process in bytes, by purpose. On a CPU, this includes the program itself."""
    on_cpu = device is not None and device.type == "cpu"
    return count.memory(cluster) | (program_memory(experiment, count) if on_cpu else {})


def memory_table(memory: Mapping[str, int], cluster: Cluster) -> str:
    """Return a table of the memory that each process needs."""
    rows = [[name, mebibytes(size)] for name, size in (*memory.items(), ("total", sum(memory.values())))]
    sharded = f", weights sharded over {cluster.shards} processes" if cluster.sharded else ""
    return tabulate(rows, [f"memory per process{sharded}", ""], colalign=("left", "right"), disable_numparse=True)


def time_table(count: StepCount, training: Training, times: Sequence[Sequence[str]]) -> str:
    """Return a table of the FLOPs per step and the training time."""
    flops = count.batch_flops() * training.accumulate
    rows = [
        ["FLOPs per step", f"{flops / 1e9:,.1f} G per process"],
        *times,
        ["not counted", ", ".join(count.cost.not_counted)],
    ]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def measured_time(seconds: float, batch: int, training: Training) -> list[list[str]]:
    """Return the rows of ``time_table`` for a step that was timed on this machine."""
    where = "this machine's GPU" if not trains_on_cpu(training) else f"this machine, {count_threads()}"
    return [
        ["samples per second", f"{batch / seconds:,.1f} per process (timed on {where})"],
        ["training time", f"{hours(training.max_steps * seconds)} for {training.max_steps} steps"],
    ]


def predicted_times(count: StepCount, cluster: Cluster, training: Training) -> list[list[str]]:
    """Return the rows of ``time_table`` with predictions for every GPU on which the run fits into memory."""
    processes = f"{cluster.processes} GPU{'' if cluster.processes == 1 else 's'}"
    rows = [["predicted from data sheets", f"samples per second and training time on {processes}"]]
    for gpu in GPUS:
        rows.append([gpu.name, prediction(count, cluster, training, gpu)])
    return rows


def prediction(count: StepCount, cluster: Cluster, training: Training, gpu: Gpu) -> str:
    """Return the predicted speed and training time on a GPU, and what limits the speed, as text."""
    needed = sum(count.memory(cluster).values())
    if needed > gpu.memory:
        return f"out of memory: {needed / 1e9:.0f} GB needed, {gpu.memory / 1e9:.0f} GB available"
    step = count.time(gpu, cluster, training.accumulate)
    samples = count.cost.batch * training.accumulate * cluster.processes / step.seconds
    return f"{samples:,.0f} per second, {hours(training.max_steps * step.seconds)}, bound by {step.bound}"


def count_threads() -> str:
    """Return the number of CPU threads of this process as text."""
    threads = torch.get_num_threads()
    return "1 thread" if threads == 1 else f"{threads} threads"


def hours(seconds: float) -> str:
    """Format a duration in hours and minutes."""
    whole, minutes = divmod(round(seconds / 60), 60)
    return f"{whole} h {minutes:02d} min"


def mebibytes(size: float) -> str:
    """Format a number of bytes in MiB."""
    return f"{size / 2**20:,.0f} MiB"


def indent(text: str) -> str:
    """Indent every line by two spaces."""
    return "\n".join(f"  {line}" for line in text.splitlines())

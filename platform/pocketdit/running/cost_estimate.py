"""Cost estimate of a run, which ``lightning run FILE --plan`` prints."""

from typing import assert_never

import torch
from tabulate import tabulate

from pocketdit.config.experiment import AnyExperiment, DecoderExperiment, Experiment, Training
from pocketdit.config.importing import import_class
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.training.cost import StageCost, count_parameters, matrix_rate, parameters_by_width

# Steps with more FLOPs than this take too long to be timed on a CPU.
MAX_TIMED_FLOPS = 2e12
# The fraction of the matrix rate that training typically reaches, used for steps that are not timed.
TYPICAL_UTILIZATION = 0.4


def parameter_counts(experiment: AnyExperiment) -> dict[str, int]:
    """Return the parameter count of every width, or of the decoder, by label."""
    match experiment:
        case Experiment():
            return {f"{width:g}x": count for width, count in parameters_by_width(experiment.backbone).items()}
        case DecoderExperiment():
            with torch.device("meta"):
                return {"decoder": count_parameters(TinyDecoder(experiment.decoder))}
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
    cost: StageCost | None = import_class(experiment.stage.class_path).cost(experiment)
    if cost is None:
        counts = parameter_summary(experiment)
        return f"{experiment.experiment}: {training.max_steps} steps of {batch} samples per process\n\n  {counts}"
    size = f"{cost.image_size}x{cost.image_size} pixels"
    parts = [
        f"{experiment.experiment}: {training.max_steps} steps of {batch} samples per process, {size}",
        network_table(cost, batch // training.accumulate),
        *([memory_table(cost, training)] if cost.memory else []),
        time_table(cost, training, batch),
    ]
    return "\n\n".join(parts)


def network_table(cost: StageCost, batch: int) -> str:
    """Return a table of the costs of the trained networks."""
    rows = [
        [
            network.label,
            millions(network.parameters),
            f"{network.forward / batch / 1e9:.2f} G",
            f"{network.saved / 2**20:.0f} MiB" if network.saved else "",
        ]
        for network in cost.networks
    ]
    headers = ["network", "parameters", "forward FLOPs per sample", "activations in fp32"]
    return indent(tabulate(rows, headers, colalign=("left", "right", "right", "right"), disable_numparse=True))


def memory_table(cost: StageCost, training: Training) -> str:
    """Return a table of the memory that each process needs."""
    devices = training.devices if isinstance(training.devices, int) else max(1, torch.cuda.device_count())
    processes = devices * training.nodes
    shards = processes if training.strategy == "fsdp2" else 1
    memory = {name: size // shards for name, size in cost.sharded_memory.items()} | cost.memory
    rows = [[name, f"{size / 2**20:.0f} MiB"] for name, size in memory.items()]
    rows.append(["total", f"{sum(memory.values()) / 2**20:.0f} MiB"])
    sharded = f", weights sharded over {processes} processes" if shards > 1 else ""
    table = tabulate(rows, [f"memory per process{sharded}", ""], colalign=("left", "right"), disable_numparse=True)
    return indent(f"{table}\nnot counted: {cost.memory_not_counted}")


def time_table(cost: StageCost, training: Training, batch: int) -> str:
    """Return a table of the FLOPs per step, the sample rate, and the training time."""
    step_flops = cost.batch_flops * training.accumulate
    seconds, basis = step_seconds(cost, training)
    hours, minutes = divmod(round(training.max_steps * seconds / 60), 60)
    rows = [
        ["FLOPs per step", f"{step_flops / 1e9:,.1f} G per process"],
        ["samples per second", f"{batch / seconds:,.1f} per process ({basis})"],
        ["training time", f"{hours} h {minutes:02d} min for {training.max_steps} steps"],
        ["not counted", cost.time_not_counted],
    ]
    return indent(tabulate(rows, tablefmt="plain", disable_numparse=True))


def step_seconds(cost: StageCost, training: Training) -> tuple[float, str]:
    """Return the seconds that a step takes on this machine, and how they were determined. Short steps are timed."""
    step_flops = cost.batch_flops * training.accumulate
    on_gpu = training.accelerator != "cpu" and torch.cuda.is_available()
    if not on_gpu and step_flops < MAX_TIMED_FLOPS:
        return cost.time_batch() * training.accumulate, f"timed on this machine, {torch.get_num_threads()} threads"
    device = torch.device("cuda" if on_gpu else "cpu")
    rate = matrix_rate(device, torch.bfloat16 if on_gpu else torch.float32)
    return step_flops / (rate * TYPICAL_UTILIZATION), (
        f"assuming {TYPICAL_UTILIZATION:.0%} of this machine's matrix rate, {rate / 1e12:.2f} TFLOP/s"
    )


def indent(text: str) -> str:
    """Indent every line by two spaces."""
    return "\n".join(f"  {line}" for line in text.splitlines())

"""Compare the time and peak memory of an elastic training step with those of training its two networks separately.

    python benchmarks/elastic_step.py [--compile] [--json PATH]

The elastic step is a step of the training stage with a full-width and a half-width network. It includes Eq. 4 and 5,
adaptive scaling, gradient clipping, the optimizer and the EMA. In separate training, each network has its own stage,
optimizer, clipping and EMA, and a batch of the same size. Neither measurement includes encoders or data loading. Peak
memory is measured in a separate process for each of the three networks, starting before the network is built. The peaks
of the two separate networks are added.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.timing import (
    PeakMemory,
    argument_parser,
    default_device,
    format_median,
    paired_ratio,
    print_machine,
    run_child,
    table,
    time_alternately,
    verdict,
    write_result,
)
from pocketdit.backbones.spec import FULL_WIDTH, AdaptiveSparseAttention, DiTSpec, FullAttention, Level
from pocketdit.config.component import Component
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.running.assemble import build_encoders, build_stage
from pocketdit.stages.elastic_pretrain import NoisyBatch
from pocketdit.training.nonfinite import stop_unless_finite

EXPERIMENT = Path(__file__).parent.parent / "experiments" / "elastic_pretrain.yaml"
HALF = 0.5
NETWORKS = ("elastic", "full", "half")
REQUIRED_TIME, REQUIRED_MEMORY = 1.05, 1.0


@dataclass(frozen=True)
class Case:
    """A configuration to measure.

    Attributes:
        experiment: The experiment that configures the stage and the optimizer.
        batch: Batch size.
        sides: Height and width of the latents.
        rounds: Number of timed steps.
    """

    experiment: Experiment
    batch: int
    sides: tuple[int, int]
    rounds: int


def cases() -> dict[str, Case]:
    """Return the named cases: a medium-sized network with AdamW, the shipped experiment, and a tiny test network."""
    shipped = load(EXPERIMENT, [], Experiment).config
    spec = replace(shipped.dit, widths=(HALF, FULL_WIDTH))
    sparse, full = AdaptiveSparseAttention("assa", 4, 16, 1), FullAttention("full", 4)
    levels = (Level(2, sparse), Level(3, full, 3, 2, long_skips=True), Level(2, sparse))
    medium = DiTSpec(16, 512, 32, spec.text_inputs, 512, 4, levels, (HALF, FULL_WIDTH))
    tiny = replace(medium, width=128, text_kv_heads=2, levels=(Level(1, FullAttention("full", 2)),))
    adamw = Component("torch.optim.AdamW", {"lr": 1e-4})
    return {
        "width 512": Case(replace(shipped, backbone=medium, optimizer=adamw), 4, (64, 64), 5),
        "embedded": Case(replace(shipped, backbone=spec), 32, (16, 16), 15),
        "tiny": Case(replace(shipped, backbone=tiny, optimizer=adamw), 2, (8, 8), 1),
    }


def network_spec(network: str, spec: DiTSpec) -> DiTSpec:
    """Return the specification of one of ``NETWORKS``."""
    match network:
        case "elastic":
            return spec
        case "full":
            return replace(spec, widths=(FULL_WIDTH,))
        case _:
            return replace(spec, width=spec.hidden_size(HALF), widths=(FULL_WIDTH,))


def build_step(network: str, case: Case, compiled: bool = False) -> Callable[[], None]:
    """Build the stage without a trainer, and return a function that runs one training step on a random batch."""
    device = default_device()
    experiment = replace(case.experiment, backbone=network_spec(network, case.experiment.dit))
    encoders = build_encoders(experiment)
    stage: Any = build_stage(experiment, encoders).to(device)
    encoders.to(device)
    for parameter in stage.backbone.parameters():
        nn.init.normal_(parameter, std=0.02)  # zero-initialized layers would make most gradients zero
    if compiled:
        stage.backbone.compile()
    optimizer = stage.configure_optimizers()
    stage.manual_backward = lambda loss: loss.backward()
    stage.optimizers = lambda **_: optimizer
    stage.log_dict = lambda values: None

    latents = (case.batch, experiment.dit.latent_channels, *case.sides)
    x, target = torch.randn(latents, device=device), torch.randn(latents, device=device)
    text = encoders.tokens(["a red circle left of a blue star"] * case.batch)
    noisy = NoisyBatch(x, torch.rand(case.batch, device=device), text, target)
    numbers = count()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            losses = stage.add_gradients(noisy, next(numbers))
            losses |= stage.combine_gradients()
            stop_unless_finite(losses, {}, stage)
            stage.update({})

    return step


def peak_memory(network: str, case: Case, compiled: bool) -> int:
    """Build a network and train it for three steps, and return the growth of this process's peak memory in bytes.

    The result is exact only in a new process, because a process that has done other work reuses freed memory.
    """
    build_step(network, cases()["tiny"])()  # loads all libraries, which are not part of the network's memory
    memory = PeakMemory()
    step = build_step(network, case, compiled)
    for _ in range(3):
        step()
    return memory.growth()


def compare(name: str, case: Case, compiled: bool, separate_processes: bool) -> dict[str, Any]:
    """Time the steps of all networks alternately, then measure their peak memory."""
    steps = {network: build_step(network, case, compiled) for network in NETWORKS}
    seconds = time_alternately(steps, case.rounds, warmup=3 if compiled else 1)
    del steps
    flags = ["--compile"] if compiled else []
    memory = {
        network: run_child(__file__, "--peak-of", network, "--case", name, *flags)
        if separate_processes
        else peak_memory(network, case, compiled)
        for network in NETWORKS
    }
    separate = [full + half for full, half in zip(seconds["full"], seconds["half"], strict=True)]
    return {
        "case": name,
        "batch": case.batch,
        "seconds": seconds,
        "memory": memory,
        "samples_per_second": case.batch / median(seconds["elastic"]),
        "time_ratio": paired_ratio(seconds["elastic"], separate),
        # Without separate processes, a tiny network may fit into freed memory, in which case the growth is zero.
        "memory_ratio": memory["elastic"] / max(1, memory["full"] + memory["half"]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--compile", action="store_true", help="compile the networks with torch.compile")
    parser.add_argument(
        "--peak-of", choices=NETWORKS, help="print the peak memory of this network and exit (used internally)"
    )
    parser.add_argument("--case", choices=list(cases()), help="case to measure with --peak-of")
    args = parser.parse_args(arguments)
    if args.peak_of:
        print(json.dumps(peak_memory(args.peak_of, cases()[args.case], args.compile)))
        return
    print_machine()
    names = ["tiny"] if args.quick else [name for name in cases() if name != "tiny"]
    rows = [compare(name, cases()[name], args.compile, not args.quick) for name in names]
    print(f"full-width and half-width networks{', compiled' if args.compile else ''}; time, then peak memory\n")
    cells = [
        [row["case"], row["batch"], *(format_median(row["seconds"][n]) for n in NETWORKS), row["time_ratio"]]
        + [f"{row['memory'][n] / 2**20:.0f} MiB" for n in NETWORKS]
        + [f"{row['memory_ratio']:.2f}", f"{row['samples_per_second']:.1f}"]
        for row in rows
    ]
    header = ["case", "batch", *NETWORKS, "time ratio", *NETWORKS, "memory ratio", "samples/s"]
    print(table(header, cells), end="\n\n")
    met = all(r["time_ratio"].median <= REQUIRED_TIME and r["memory_ratio"] <= REQUIRED_MEMORY for r in rows)
    slowest = max(rows, key=lambda row: row["time_ratio"].median)
    largest = max(row["memory_ratio"] for row in rows)
    print(
        f"ratio: elastic / (full + half) = {slowest['time_ratio']} in time (at most {REQUIRED_TIME}), {largest:.2f} "
        f"in memory (at most {REQUIRED_MEMORY}): {verdict(met)}"
    )
    write_result(
        {
            "benchmark": "elastic_step",
            "rows": rows,
            "ratio": slowest["time_ratio"],
            "required": REQUIRED_TIME,
            "memory_ratio": largest,
            "required_memory": REQUIRED_MEMORY,
            "met": met,
        },
        args.json,
    )


if __name__ == "__main__":
    main()

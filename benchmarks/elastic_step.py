"""An elastic training step against its two networks trained separately, in time and in peak memory.

The elastic step is the stage's own: full network and half-width network, Eq. 4 and 5, adaptive scaling, clipping,
optimizer, average. Separately means two stages of one width each, with an optimizer, clipping and an average of
their own, on the same batch. Encoders and data are on neither side. Peak memory is that of a process of its own
for each of the three, from before the network is built; the two separate ones are added up.

    python benchmarks/elastic_step.py [--compile] [--json PATH]
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
    alternate,
    announce,
    child,
    device,
    milliseconds,
    options,
    pairwise,
    report,
    table,
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
    """An experiment's stage and optimizer on batches of ``batch`` latents of ``sides``."""

    experiment: Experiment
    batch: int
    sides: tuple[int, int]
    rounds: int


def cases() -> dict[str, Case]:
    """A middling network with AdamW; the embedded default with its own optimizer; and a tiny one for the tests."""
    embedded = load(EXPERIMENT, [], Experiment).config
    spec = replace(embedded.backbone, widths=(HALF, FULL_WIDTH))
    around, everywhere = AdaptiveSparseAttention("assa", 4, 16, 1), FullAttention("full", 4)
    levels = (Level(2, around), Level(3, everywhere, 3, 2, long_skips=True), Level(2, around))
    middling = DiTSpec(16, 512, 32, spec.text_inputs, 512, 4, levels, (HALF, FULL_WIDTH))
    tiny = replace(middling, width=128, text_kv_heads=2, levels=(Level(1, FullAttention("full", 2)),))
    adamw = Component("torch.optim.AdamW", {"lr": 1e-4})
    return {
        "width 512": Case(replace(embedded, backbone=middling, optimizer=adamw), 4, (64, 64), 5),
        "embedded": Case(replace(embedded, backbone=spec), 32, (16, 16), 15),
        "tiny": Case(replace(embedded, backbone=tiny, optimizer=adamw), 2, (8, 8), 1),
    }


def spec_of(network: str, spec: DiTSpec) -> DiTSpec:
    """The description of one of ``NETWORKS``."""
    match network:
        case "elastic":
            return spec
        case "full":
            return replace(spec, widths=(FULL_WIDTH,))
        case _:
            return replace(spec, width=spec.hidden_size(HALF), widths=(FULL_WIDTH,))


def step_of(network: str, case: Case, compiled: bool = False) -> Callable[[], None]:
    """A training step of the real stage without a trainer, on one batch drawn here."""
    on = device()
    experiment = replace(case.experiment, backbone=spec_of(network, case.experiment.backbone))
    encoders = build_encoders(experiment)
    stage: Any = build_stage(experiment, encoders).to(on)
    encoders.to(on)
    for parameter in stage.backbone.parameters():
        nn.init.normal_(parameter, std=0.02)  # at the start every branch is zero, and so are its gradients
    if compiled:
        stage.backbone.compile()
    optimizer = stage.configure_optimizers()
    stage.manual_backward = lambda loss: loss.backward()
    stage.optimizers = lambda: optimizer
    stage.log_dict = lambda values: None

    latents = (case.batch, experiment.backbone.latent_channels, *case.sides)
    x, target = torch.randn(latents, device=on), torch.randn(latents, device=on)
    text = encoders.tokens(["a red circle left of a blue star"] * case.batch)
    draw = NoisyBatch(x, torch.rand(case.batch, device=on), text, target)
    numbers = count()

    def step() -> None:
        with torch.autocast(on.type, torch.bfloat16, enabled=on.type == "cuda"):
            losses = stage.add_gradients(draw, next(numbers))
            stop_unless_finite(losses, {}, stage)
            stage.update({})

    return step


def peak_memory(network: str, case: Case, compiled: bool) -> int:
    """Bytes that building a network and three steps of it add to this process at their peak.

    Exact in a new process: an older one builds in memory that it has freed before.
    """
    step_of(network, cases()["tiny"])()  # libraries load on first use, and are no part of the network's memory
    memory = PeakMemory()
    step = step_of(network, case, compiled)
    for _ in range(3):
        step()
    return memory.growth()


def compare(name: str, case: Case, compiled: bool, own_processes: bool) -> dict[str, Any]:
    """Time in turns, then memory."""
    steps = {network: step_of(network, case, compiled) for network in NETWORKS}
    seconds = alternate(steps, case.rounds, warmup=3 if compiled else 1)
    del steps
    flags = ["--compile"] if compiled else []
    memory = {
        network: child(__file__, "--peak-of", network, "--case", name, *flags)
        if own_processes
        else peak_memory(network, case, compiled)
        for network in NETWORKS
    }
    apart = [full + half for full, half in zip(seconds["full"], seconds["half"], strict=True)]
    return {
        "case": name,
        "batch": case.batch,
        "seconds": seconds,
        "memory": memory,
        "samples_per_second": case.batch / median(seconds["elastic"]),
        "time_ratio": pairwise(seconds["elastic"], apart),
        # An older process can build a tiny network in memory that it has: no growth, and no ratio.
        "memory_ratio": memory["elastic"] / max(1, memory["full"] + memory["half"]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks")
    parser.add_argument("--peak-of", choices=NETWORKS, help="print this network's peak memory, for the parent process")
    parser.add_argument("--case", choices=list(cases()))
    chosen = parser.parse_args(arguments)
    if chosen.peak_of:
        print(json.dumps(peak_memory(chosen.peak_of, cases()[chosen.case], chosen.compile)))
        return
    announce()
    wanted = ["tiny"] if chosen.quick else [name for name in cases() if name != "tiny"]
    rows = [compare(name, cases()[name], chosen.compile, not chosen.quick) for name in wanted]
    print(f"full and half-width network{', compiled' if chosen.compile else ''}\n")
    cells = [
        [row["case"], row["batch"], *(milliseconds(row["seconds"][n]) for n in NETWORKS), row["time_ratio"]]
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
        f"ratio: elastic / (full + half) = {slowest['time_ratio']} in time, required {REQUIRED_TIME}; {largest:.2f} in "
        f"memory, required {REQUIRED_MEMORY}: {'met' if met else 'NOT met'}"
    )
    report(
        {
            "benchmark": "elastic_step",
            "rows": rows,
            "ratio": slowest["time_ratio"],
            "required": REQUIRED_TIME,
            "memory_ratio": largest,
            "required_memory": REQUIRED_MEMORY,
            "met": met,
        },
        chosen.json,
    )


if __name__ == "__main__":
    main()

"""Predict what training at the paper's scale costs, and write the tables of ``docs/scaling.md``.

    python -m benchmarks.scaling [--check] [--count [CASE ...]]

The operations of every stage in ``experiments/paper`` are counted on the meta device at 256x256 and 1024x1024 pixels
with the code of ``lightning run --plan``, and the time of a step is predicted for the GPUs in
``pocketdit.training.gpus``. Counting takes about five minutes on one core, so the counts are stored in
``benchmarks/scaling.json``. ``--count`` counts all cases again, or only the named ones. Without ``--count``, the tables
are written from the stored counts. ``--check`` writes nothing, and fails if the page and the counts disagree. None of
this has been measured on a GPU.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pocketdit  # noqa: F401  (imported first, so that torchvision can be imported with a CPU build of torch)

# isort: split
import torch

from benchmarks import scaling_tables
from pocketdit.config.experiment import kind_of
from pocketdit.config.importing import import_class
from pocketdit.config.load import load
from pocketdit.files import write_atomically
from pocketdit.running.cost_estimate import cluster_of
from pocketdit.training.cost import Pass, PassCount, StageCost
from pocketdit.training.gpus import GPUS
from pocketdit.training.kernels import Kernel, Kernels
from pocketdit.training.roofline import Cluster, Exchange, step_time
from pocketdit.training.step_count import StepCount, count_step

ROOT = Path(__file__).parent.parent
COUNTS = ROOT / "benchmarks" / "scaling.json"
PAGE = ROOT / "docs" / "scaling.md"
AT_256 = ("data.init_args.base_size=256",)
SAVING = "training.gradient_checkpointing=true"
NODE = "training.sharding.group=node"


@dataclass(frozen=True)
class Case:
    """A stage at one image size.

    Attributes:
        file: Name of the stage's YAML file in ``experiments/paper``, without its suffix.
        overrides: Overrides of the file's settings.
    """

    file: str
    overrides: tuple[str, ...] = ()


def larger(width: int, depths: tuple[int, int, int]) -> Case:
    """Return the case of elastic pre-training with a larger supernet."""
    sparse = "attention: {kind: assa, kv_heads: 8, blocks: 16, radius: 1}, ffn_ratio: 4"
    full = "attention: {kind: full, kv_heads: 8}, ffn_ratio: 3, long_skips: true"
    kinds = ((1, sparse), (2, full), (1, sparse))
    levels = [f"{{depth: {depth}, scale: {kind[0]}, {kind[1]}}}" for depth, kind in zip(depths, kinds, strict=True)]
    sizes = (f"backbone.width={width}", f"backbone.text_width={width}", f"backbone.levels=[{', '.join(levels)}]")
    return Case("elastic_256", (*sizes, SAVING))


CASES: Mapping[str, Case] = {
    "elastic 256": Case("elastic_256"),
    "elastic 1024": Case("elastic_1024"),
    "elastic 256, node": Case("elastic_256", (NODE,)),
    "elastic 256, node, bf16": Case("elastic_256", (NODE, "training.sharding.weights=bfloat16")),
    "knowledge 256": Case("knowledge_distill_1024", (*AT_256, "data.init_args.batch_size=32")),
    "knowledge 1024": Case("knowledge_distill_1024"),
    "steps 256": Case("step_distill_1024", AT_256),
    "steps 1024": Case("step_distill_1024"),
    "quantize 256": Case("quantize_finetune_1024", AT_256),
    "quantize 1024": Case("quantize_finetune_1024"),
    "decoder 256": Case("tiny_decoder_qwen_image"),
    "decoder 1024": Case(
        "tiny_decoder_qwen_image",
        ("data.init_args.base_size=1024", "stage.init_args.crop=1024", "data.init_args.batch_size=1"),
    ),
    "ladder U-Net": Case("ladder_unet"),
    "ladder A": Case("ladder_a"),
    "ladder B": Case("ladder_b"),
    "ladder C": Case("ladder_c"),
    "ladder D": Case("ladder_d"),
    "10 times": larger(6144, (10, 12, 11)),
    "100 times": larger(20480, (9, 11, 10)),
}


def count(case: Case) -> dict[str, Any]:
    """Count a case's operations on the meta device, and predict the time of a step on every GPU.

    Returns:
        Values for JSON. FLOPs, bytes and launches are averages per sample. All other costs are those of one process.
    """
    path = ROOT / "experiments" / "paper" / f"{case.file}.yaml"
    experiment = load(path, case.overrides, kind_of(path)).config
    training, cluster = experiment.training, cluster_of(experiment.training)
    cost: StageCost | None = import_class(experiment.stage.class_path).cost(experiment)
    assert cost is not None
    step = count_step(cost, torch.device("meta"), bf16=True)
    return {
        "size": cost.image_size,
        "samples": cost.batch * training.accumulate,
        "steps": training.max_steps,
        "processes": cluster.processes,
        "sharded": cluster.sharded,
        "kernels": by_kind(step.batch_kernels(), cost.batch),
        "passes": {item.label: item.per_batch * counted.flops / cost.batch for item, counted in step.passes},
        "weights": {item.label: item.parameters for item, _ in step.passes},
        "encoders": encoders(step),
        "exchanged": training.accumulate * sum(step.exchanged_bytes(cluster)),
        "memory": step.memory(cluster),
        "checkpoint": sum(cost.memory.get(name, 0) for name in ("weights", "EMA weights", "optimizer state")),
        "times": {gpu.name: dict(step.time(gpu, cluster, training.accumulate).parts) for gpu in GPUS},
    }


def by_kind(kernels: Mapping[Kernel, float], samples: int) -> dict[str, dict[str, float]]:
    """Return the FLOPs, bytes and launches per sample of each kind of kernel."""
    totals = {kind: {"flops": 0.0, "bytes": 0.0, "launches": 0.0} for kind in ("product", "attention", "other")}
    for kernel, launches in kernels.items():
        total = totals[kernel.kind]
        total["flops"] += launches * kernel.flops / samples
        total["bytes"] += launches * kernel.bytes / samples
        total["launches"] += launches / samples
    return totals


def encoders(step: StepCount) -> dict[str, dict[str, float]]:
    """Return the predicted number of seconds per sample that each frozen encoder takes on each GPU."""

    def seconds(item: Pass, counted: PassCount) -> dict[str, float]:
        once: Kernels = counted.forward
        batch = step.cost.batch
        return {gpu.name: step_time(once, {}, Exchange(), gpu, Cluster()).seconds / batch for gpu in GPUS}

    return {item.label: seconds(item, counted) for item, counted in step.passes if not item.sharded}


def rounded(value: Any) -> Any:
    """Round all numbers to six significant digits, so that the file does not depend on the order of summation."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def filled(page: str, tables: Mapping[str, str]) -> str:
    """Return the page with its tables replaced. ``<!-- table NAME -->`` and ``<!-- end -->`` enclose each table.

    Raises:
        ValueError: The names of the page's tables differ from those of ``tables``.
    """
    before, *sections = page.split("<!-- table ")
    names, parts = [], [before]
    for section in sections:
        name, _, rest = section.partition(" -->")
        _, _, after = rest.partition("<!-- end -->")
        names.append(name)
        parts.append(f"{name} -->\n\n{tables.get(name, '')}\n\n<!-- end -->{after}")
    if sorted(names) != sorted(tables):
        raise ValueError(f"the page contains the tables {sorted(names)}, but must contain {sorted(tables)}")
    return "<!-- table ".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count cases, and write or check the page, as the options specify."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", nargs="*", choices=CASES, metavar="CASE", help="count these cases again, or all")
    parser.add_argument("--check", action="store_true", help="fail if the page is not up to date")
    args = parser.parse_args(arguments)
    counts: dict[str, Any] = json.loads(COUNTS.read_text()) if COUNTS.is_file() else {}
    if args.count is not None:
        for name in args.count or CASES:
            print(name, flush=True)
            counts[name] = rounded(count(CASES[name]))
        counts = {name: counts[name] for name in CASES if name in counts}
        write_atomically(COUNTS, json.dumps(counts, indent=1) + "\n")
    page = PAGE.read_text()
    expected = filled(page, scaling_tables.all_tables(counts))
    if args.check:
        if page != expected:
            print(f"{PAGE.name} is not up to date; run: python -m benchmarks.scaling", file=sys.stderr)
        return int(page != expected)
    write_atomically(PAGE, expected)
    return 0


if __name__ == "__main__":
    sys.exit(main())

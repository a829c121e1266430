"""Formats the tables of ``docs/scaling.md`` in Markdown from the counts that ``benchmarks/scaling.py`` stores."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pocketdit.training.gpus import GPUS, Gpu
from pocketdit.training.roofline import Bound, StepTime

Counts = Mapping[str, Any]
Case = Mapping[str, Any]

STAGES = {
    "elastic 256": "elastic pre-training",
    "elastic 1024": "elastic pre-training",
    "knowledge 256": "knowledge distillation",
    "knowledge 1024": "knowledge distillation",
    "steps 256": "step distillation",
    "steps 1024": "step distillation",
    "quantize 256": "quantization",
    "quantize 1024": "quantization",
    "decoder 256": "tiny decoder",
    "decoder 1024": "tiny decoder",
}
# What the paper states about the length of each stage (Sec. 3.1 and supplements C and H).
STATED = {
    "elastic 256": "400 K iterations, batch 8192, 256 A100",
    "knowledge 1024": "100 K iterations, batch 2048, 256 A100",
    "steps 1024": "10 K iterations, batch 512, 4 nodes; unclear whether for each width",
    "quantize 1024": "several thousand iterations; no batch, no GPUs",
    "decoder 256": "nothing",
    "ladder U-Net": "200 K iterations; no batch, no GPUs",
    "ladder A": "as for the U-Net",
    "ladder B": "as for the U-Net",
    "ladder C": "as for the U-Net",
    "ladder D": "as for the U-Net",
}
# ``group`` and ``weights`` of training.sharding in each case.
SHARDINGS = {
    "elastic 256": ("all", "float32"),
    "elastic 256, node": ("node", "float32"),
    "elastic 256, node, bf16": ("node", "bfloat16"),
}
KINDS = {"product": "matrix products", "attention": "attention", "other": "elementwise kernels"}
A100 = next(gpu for gpu in GPUS if gpu.name == "A100")

# Encoded training data of the paper's supernet: 16-bit latents, and 16-bit text embeddings at their full length.
LATENT_CHANNELS, LATENT_FACTOR = 16, 8
TEXT = ((77, 512), (256, 2560))  # tokens per caption and channels per token, for TinyCLIP and Gemma 3
VALUE_BYTES = 2
# Assumptions about what the paper does not state.
BITS_PER_PIXEL = 3.0  # size of a stored JPEG
STORAGE_PRICE = 0.023  # dollars per GB per month in an object store
EGRESS_PRICE = 0.05  # dollars per GB that leaves the object store's region
CHECKPOINT_RATE = 10e9  # bytes/s at which a checkpoint is written to a shared file system
DATA_SETS = (10e6, 100e6, 1e9, 10e9)  # images


def all_tables(counts: Counts) -> dict[str, str]:
    """Return a mapping from the name of each table in the page to its Markdown text."""
    return {
        "counts": counts_table(counts),
        "speed": speed_table(counts),
        "parts": parts_table(counts),
        "sharding": sharding_table(counts),
        "hours": hours_table(counts),
        "samples": samples_table(counts),
        "encoding": encoding_table(counts),
        "storage": storage_table(),
        "parameters": parameters_table(counts),
        "gpus": gpus_table(counts["elastic 256"]),
    }


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float) -> str:
    """Format a number with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def step_time(case: Case, gpu: Gpu) -> StepTime:
    """Return the predicted time of a step."""
    return StepTime(case["times"][gpu.name])


def memory(case: Case) -> float:
    """Return the memory in bytes that a process needs."""
    return float(sum(case["memory"].values()))


def per_gpu(case: Case, gpu: Gpu) -> float:
    """Return the predicted number of samples per second per GPU."""
    return float(case["samples"]) / step_time(case, gpu).seconds


def gpu_hours(case: Case, gpu: Gpu) -> float:
    """Return the number of GPU hours that a case takes."""
    steps, processes = float(case["steps"]), float(case["processes"])
    return steps * step_time(case, gpu).seconds * processes / 3600


def counts_table(counts: Counts) -> str:
    """Return the table of what a step computes and moves, per sample."""
    header = [
        "stage", "pixels", "samples per GPU per step", "products, TFLOP", "attention, TFLOP", "products, GB",
        "attention, GB", "elementwise, GB", "launches per step", "GB per GPU",
    ]  # fmt: skip
    rows = []
    for name, stage in STAGES.items():
        case = counts[name]
        kernels = case["kernels"]
        moved = {kind: kernels[kind]["bytes"] / 1e9 for kind in KINDS}
        launches = sum(kernels[kind]["launches"] for kind in KINDS) * case["samples"]
        rows.append([
            stage, f"{case['size']}", f"{case['samples']}",
            *(number(kernels[kind]["flops"] / 1e12) for kind in ("product", "attention")),
            *(number(moved[kind]) for kind in KINDS),
            number(launches), number(memory(case) / 1e9),
        ])  # fmt: skip
    return markdown(header, rows)


def speed_table(counts: Counts) -> str:
    """Return the table of the samples per second per GPU, and of what bounds this rate."""
    rows = [[stage, f"{counts[name]['size']}", *(speed(counts[name], gpu) for gpu in GPUS)]
            for name, stage in STAGES.items()]  # fmt: skip
    return markdown(["stage", "pixels", *(gpu.name for gpu in GPUS)], rows)


def speed(case: Case, gpu: Gpu) -> str:
    """Return the samples per second per GPU and what bounds the rate, or say that the step does not fit into memory."""
    if memory(case) > gpu.memory:
        return f"does not fit ({memory(case) / 1e9:.0f} GB)"
    return f"{number(per_gpu(case, gpu))}, {step_time(case, gpu).bound}"


def parts_table(counts: Counts) -> str:
    """Return the table of how many seconds a step spends on each kind of work on an A100."""
    bounds = get_args(Bound)
    rows = []
    for name, stage in STAGES.items():
        step = step_time(counts[name], A100)
        seconds = [f"{step.parts[bound]:.2f}" for bound in bounds]
        rows.append([stage, f"{counts[name]['size']}", *seconds, f"**{step.seconds:.2f}**"])
    return markdown(["stage", "pixels", *bounds, "step"], rows)


def sharding_table(counts: Counts) -> str:
    """Return the table of what hybrid sharding changes for elastic pre-training at 256x256 pixels on an A100."""
    rows = []
    for name, (group, dtype) in SHARDINGS.items():
        case, step = counts[name], step_time(counts[name], A100)
        cells = (memory(case) / 1e9, step.parts["communication"], step.seconds, per_gpu(case, A100))
        rows.append([group, dtype, *map(number, cells)])
    header = ["`group`", "`weights`", "GB per GPU", "communication, s", "step, s", "samples per second per GPU"]
    return markdown(header, rows)


def hours_table(counts: Counts) -> str:
    """Return the table of the GPU hours that every stage takes."""
    rows = []
    for name, stated in STATED.items():
        case = counts[name]
        counted = f"{case['steps'] / 1000:g} K, {case['samples'] * case['processes']}, {case['processes']}"
        hours = [number(gpu_hours(case, gpu)) if memory(case) <= gpu.memory else "does not fit" for gpu in GPUS]
        rows.append([f"{STAGES.get(name, name)}, {case['size']}", stated, counted, *hours])
    return markdown(
        ["stage, pixels", "the paper states", "our iterations, batch, GPUs", *(gpu.name for gpu in GPUS)], rows
    )


def image_bytes(side: int) -> float:
    """Return the assumed size of a stored image."""
    return side * side * BITS_PER_PIXEL / 8


def latent_bytes(side: int) -> float:
    """Return the size of an image's latents."""
    return LATENT_CHANNELS * (side // LATENT_FACTOR) ** 2 * VALUE_BYTES


def text_bytes() -> float:
    """Return the size of a caption's embeddings at full length."""
    return sum(tokens * channels for tokens, channels in TEXT) * VALUE_BYTES


def samples_table(counts: Counts) -> str:
    """Return the table of how many samples a stage reads and how fast."""
    rows = []
    for name in ("elastic 256", "knowledge 1024", "steps 1024"):
        case = counts[name]
        read, side = case["steps"] * case["samples"] * case["processes"], case["size"]
        rate = per_gpu(case, A100) * case["processes"]
        stored = (image_bytes(side), latent_bytes(side) + text_bytes())
        cells = [f"{size * read / 1e12:,.0f} TB, {size * rate / 1e9:.2g} GB/s" for size in stored]
        rows.append([f"{STAGES[name]}, {side}", f"{read / 1e6:,.0f} M", number(rate), *cells])
    header = ["stage, pixels", "samples read", "samples per second", "as images", "as latents and embeddings"]
    return markdown(header, rows)


def encoding_table(counts: Counts) -> str:
    """Return the table of GPU hours per million encoded samples, and of encoding as a share of a step's kernel time."""
    rows = []
    for name in ("elastic 256", "elastic 1024"):
        case = counts[name]
        for label, seconds in case["encoders"].items():
            hours = [number(seconds[gpu.name] * 1e6 / 3600) for gpu in GPUS]
            share = seconds["A100"] * case["samples"] / step_time(case, A100).kernels
            rows.append([f"{label}, {case['size']}", *hours, f"{100 * share:.0f}%"])
    return markdown(["encoder, pixels", *(gpu.name for gpu in GPUS), "share of a step's kernels on an A100"], rows)


def storage_table() -> str:
    """Return the table of the sizes of data sets and the prices of storing and transferring them."""
    rows = []
    for images in DATA_SETS:
        for side in (256, 1024):
            sizes = [image_bytes(side) * images, latent_bytes(side) * images, text_bytes() * images]
            gigabytes = (sizes[0], sizes[1] + sizes[2])
            prices = [
                f"{number(size / 1e9 * STORAGE_PRICE)} / {number(size / 1e9 * EGRESS_PRICE)}" for size in gigabytes
            ]
            rows.append(
                [f"{images / 1e6:,.0f} M", f"{side}", *(f"{number(size / 1e12)} TB" for size in sizes), *prices]
            )
    return markdown(
        ["images", "pixels", "images", "latents", "embeddings", "$ for images: month / egress",
         "$ for latents and embeddings: month / egress"], rows
    )  # fmt: skip


def parameters_table(counts: Counts) -> str:
    """Return the table of what pre-training larger supernets costs with the paper's batch size and GPUs."""
    rows = []
    for name, times in (("elastic 256", "1"), ("10 times", "10"), ("100 times", "100")):
        case = counts[name]
        stored = sum(size for key, size in case["memory"].items() if key not in ("gathered weights", "activations"))
        gathered, activations = case["memory"]["gathered weights"], case["memory"]["activations"]
        step, checkpoint = step_time(case, A100), case["checkpoint"]
        rows.append([
            times, f"{case['weights']['1x'] / 1e9:.1f} G",
            *(number(size / 1e9) for size in (stored, gathered, activations)),
            f"{number(memory(case) / 1e9)}{'' if memory(case) <= A100.memory else ' (does not fit)'}",
            number(step.kernels), number(step.parts["communication"]), number(gpu_hours(case, A100)),
            f"{number(checkpoint / 1e9)} GB, {number(checkpoint / CHECKPOINT_RATE)} s",
        ])  # fmt: skip
    header = [
        "times", "parameters", "stored, GB", "gathered, GB", "activations, GB", "GB per GPU", "kernels, s",
        "communication, s", "A100 hours", "checkpoint",
    ]  # fmt: skip
    return markdown(header, rows)


def gpus_table(case: Case) -> str:
    """Return the table of how long elastic pre-training takes if the paper's batch is divided among more GPUs."""
    rows, step, batch = [], step_time(case, A100), case["samples"] * case["processes"]
    for times in (1, 2, 4, 8, 10, 32, 100):
        processes = case["processes"] * times
        if processes > batch:
            rows.append([f"{processes:,}", "less than one", "", "", "", "", ""])
            continue
        parts = (step.kernels / times, step.parts["kernel launches"], step.parts["communication"])
        seconds = max(parts)
        rows.append([
            f"{processes:,}", number(batch / processes), *(f"{part:.2f}" for part in parts),
            number(case["steps"] * seconds / 3600), number(case["steps"] * seconds * processes / 3600),
        ])  # fmt: skip
    header = ["GPUs", "samples each", "kernels, s", "launches, s", "communication, s", "hours", "GPU hours"]
    return markdown(header, rows)

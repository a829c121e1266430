"""A census as a table, and against its budget."""

from collections import defaultdict

from pocketdit.export.census import Census
from pocketdit.export.settings import Budget


def table(census: Census) -> str:
    """Every kind of operation with its count, FLOPs and bytes, then the totals. MB are 10^6 bytes."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    for o in census.operations:
        for place, value in enumerate((1, o.flops / 1e9, (o.input_bytes + o.output_bytes) / 1e6, o.weight_bytes / 1e6)):
            sums[o.kind][place] += o.count * value
    lines = [f"{'operation':22}{'count':>8}{'GFLOP':>12}{'traffic MB':>14}{'weights MB':>14}"]
    for kind, (count, flops, traffic, weights) in sorted(sums.items(), key=lambda item: -item[1][0]):
        lines.append(f"{kind:22}{count:8.0f}{flops:12.3f}{traffic:14.2f}{weights:14.2f}")
    total = (census.flops / 1e9, census.activation_bytes / 1e6, census.weight_bytes / 1e6)
    lines.append(f"{'all':22}{census.count:8d}{total[0]:12.3f}{total[1]:14.2f}{total[2]:14.2f}")
    largest = census.largest
    lines.append(f"largest tensor {largest.output_bytes / 1e6:.2f} MB: {largest.kind} {list(largest.shape)}")
    lines.append(f"weights as stored {census.stored_bytes / 1e6:.2f} MB")
    reasons: dict[str, int] = defaultdict(int)
    for o in census.elsewhere:
        reasons[o.elsewhere] += o.count
    found = ", ".join(f"{count} by {reason}" for reason, count in sorted(reasons.items()))
    lines.append(f"off the Neural Engine: {sum(reasons.values())} operations{f' ({found})' if found else ''}")
    return "\n".join(lines)


def broken(census: Census, budget: Budget) -> list[str]:
    """A line for every limit that the census exceeds."""
    found = {
        "operations": census.count,
        "tensor_mb": census.largest.output_bytes / 1e6,
        "gflops": census.flops / 1e9,
        "weight_mb": census.stored_bytes / 1e6,
        "traffic_mb": census.activation_bytes / 1e6,
        "elsewhere": sum(o.count for o in census.elsewhere),
    }
    limits = {name: getattr(budget, name) for name in found}
    return [
        f"budget.{name} is {limits[name]:g}, the graph has {value:g}"
        for name, value in found.items()
        if limits[name] is not None and value > limits[name]
    ]

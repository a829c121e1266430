"""Format a census as a table, and check it against a budget."""

from collections import Counter, defaultdict

from tabulate import tabulate

from pocketdit.errors import RunError
from pocketdit.export.common.budget import Budget
from pocketdit.export.common.census import Census


def census_table(census: Census) -> str:
    """Return a table with the number, FLOPs and bytes of each kind of operation, most frequent first, and the totals.

    1 MB is 10^6 bytes.
    """
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    for o in census.operations:
        costs = (1, o.flops / 1e9, (o.input_bytes + o.output_bytes) / 1e6, o.weight_bytes / 1e6)
        for column, cost in enumerate(costs):
            sums[o.kind][column] += o.count * cost
    rows = [[kind, *values] for kind, values in sorted(sums.items(), key=lambda item: -item[1][0])]
    rows.append(["all", census.count, census.flops / 1e9, census.activation_bytes / 1e6, census.weight_bytes / 1e6])
    table = tabulate(
        rows,
        headers=["operation", "count", "GFLOP", "traffic MB", "weights MB"],
        floatfmt=("", ".0f", ".3f", ".2f", ".2f"),
        tablefmt="simple",
    )
    largest = census.largest
    reasons: Counter[str] = Counter()
    for o in census.elsewhere:
        reasons[o.elsewhere] += o.count
    details = ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
    return "\n".join([
        table,
        f"largest tensor: {largest.output_bytes / 1e6:.2f} MB, {largest.kind} {list(largest.shape)}",
        f"stored weights: {census.stored_bytes / 1e6:.2f} MB",
        f"operations outside the Neural Engine: {reasons.total()}{f' ({details})' if details else ''}",
    ])  # fmt: skip


def exceeded_limits(census: Census, budget: Budget) -> list[str]:
    """Return a message for each limit that the census exceeds."""
    actual = {
        "operations": census.count,
        "tensor_mb": census.largest.output_bytes / 1e6,
        "gflops": census.flops / 1e9,
        "weight_mb": census.stored_bytes / 1e6,
        "traffic_mb": census.activation_bytes / 1e6,
        "elsewhere": sum(o.count for o in census.elsewhere),
    }
    limits = {name: getattr(budget, name) for name in actual}
    return [
        f"budget.{name}: the limit is {limits[name]:g}, but the graph has {value:g}"
        for name, value in actual.items()
        if limits[name] is not None and value > limits[name]
    ]


def require_budget(census: Census, budget: Budget) -> None:
    """Check that the census is within the budget.

    Raises:
        RunError: The census exceeds the budget. The message lists all exceeded limits.
    """
    if exceeded := exceeded_limits(census, budget):
        raise RunError("; ".join(exceeded))

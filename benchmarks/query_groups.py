"""Compare the two values of ``backbone.query_groups`` (how query heads share key/value heads) on the embedded supernet.

The network is the one in ``experiments/elastic_pretrain.yaml``, but with heads of 8 channels, so that it has 32, 16 and
12 query heads at 1x, 0.5x and 0.375x, and four key/value heads. For each seed, both variants start from the same
weights and see the same data and noise. The program prints their validation losses at every width, and the differences.

    python -m benchmarks.query_groups --runs FOLDER [--steps 1500] [--seeds 0 1 2]

Requires data/scenes (``lightning data build scenes data/scenes``).
"""

import statistics
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from benchmarks.twins import Losses, Variant, train_twin, twin_parser, validation_losses

KV_HEADS = 4
SIZES = (
    "backbone.head_dim=8",
    f"backbone.text_kv_heads={KV_HEADS}",
    *(f"backbone.levels.{level}.attention.kv_heads={KV_HEADS}" for level in range(3)),
)
GROUPS = ("adjacent", "interleaved")


def table(losses: Mapping[str, Mapping[int, Losses]]) -> str:
    """Tabulate the losses of both variants, and the mean difference, interleaved minus adjacent, at each width.

    Args:
        losses: For each variant and seed, the loss at each width.
    """
    adjacent, interleaved = (losses[groups] for groups in GROUPS)
    widths = sorted(next(iter(adjacent.values())))
    rows = [
        [seed, groups, *(f"{losses[groups][seed][width]:.4f}" for width in widths)]
        for seed in adjacent
        for groups in GROUPS
    ]
    differences = {width: [interleaved[seed][width] - adjacent[seed][width] for seed in adjacent] for width in widths}
    rows.append(["mean", "difference", *(f"{statistics.fmean(differences[width]):+.4f}" for width in widths)])
    lower = (f"{sum(value < 0 for value in differences[width])} of {len(adjacent)}" for width in widths)
    rows.append(["", "interleaved is lower", *lower])
    headers = ["seed", "query groups", *(f"{width:g}x" for width in widths)]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=("left", "left"))


def main(arguments: Sequence[str] | None = None) -> None:
    args = twin_parser(__doc__, steps=1500).parse_args(arguments)
    losses: dict[str, dict[int, Losses]] = {groups: {} for groups in GROUPS}
    for seed in args.seeds:
        for groups in GROUPS:
            variant = Variant(f"groups_{groups}", (*SIZES, f"backbone.query_groups={groups}"))
            losses[groups][seed] = validation_losses(train_twin(variant, seed, args))
    print(f"\nvalidation loss after {args.steps} steps\n\n{table(losses)}")


if __name__ == "__main__":
    main()

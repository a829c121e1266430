"""Which layers get the more bits (paper supplement C: the most sensitive, at an average of 4.3)."""

from collections.abc import Mapping

from pocketdit.errors import ConfigError
from pocketdit.quantization.palette import stored_bits


def average_bits(weights: Mapping[str, int], bits: Mapping[str, int]) -> float:
    """Bits a weight over all palettised weights: packed indices and palettes, nothing else."""
    return sum(stored_bits(count, bits[name]) for name, count in weights.items()) / sum(weights.values())


def require_possible(weights: Mapping[str, int], target: float, low: int) -> None:
    """Raises ``ConfigError`` where ``low`` bits for all layers are above the target already."""
    least = average_bits(weights, dict.fromkeys(weights, low))
    if least > target:
        raise ConfigError(
            f"stage.init_args.average_bits: {target:g} is too few: with {low} bits for every layer the average is "
            f"{least:.3f}, palettes included"
        )


def allocate(
    weights: Mapping[str, int], errors: Mapping[str, float], target: float, low: int, high: int
) -> dict[str, int]:
    """Bits of every layer: ``low`` for all, then ``high`` from the most sensitive on, as long as the average allows.

    ``weights``: of every layer; ``errors``: its relative output error at ``low`` bits. A layer that would bring the
    average (``average_bits``) above ``target`` is passed over, the next are still tried. Equal errors go by name.
    Raises ``ConfigError`` where the target is not to be had (``require_possible``).
    """
    require_possible(weights, target, low)
    bits = dict.fromkeys(weights, low)
    for name in sorted(weights, key=lambda name: (-errors[name], name)):
        if average_bits(weights, bits | {name: high}) <= target:
            bits[name] = high
    return bits

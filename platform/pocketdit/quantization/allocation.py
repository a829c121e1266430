"""Allocation of bits to layers: the most sensitive ones get more (paper supplement C, at an average of 4.3 bits)."""

from collections.abc import Mapping

from pocketdit.errors import ConfigError
from pocketdit.quantization.palette import stored_bits


def average_bits(weights: Mapping[str, int], bits: Mapping[str, int]) -> float:
    """Compute the average bits per weight over all palettized layers, including the palettes.

    Args:
        weights: Number of weights of each layer.
        bits: Bits of each layer.
    """
    return sum(stored_bits(count, bits[name]) for name, count in weights.items()) / sum(weights.values())


def require_reachable_average(weights: Mapping[str, int], target: float, low: int) -> None:
    """Check that a target for the average can be reached.

    Raises:
        ConfigError: The average is above the target even with ``low`` bits for all layers.
    """
    least = average_bits(weights, dict.fromkeys(weights, low))
    if least > target:
        raise ConfigError(
            f"stage.init_args.average_bits: {target:g} is too low: with {low} bits for every layer, the average is "
            f"{least:.3f}, palettes included"
        )


def allocate_bits(
    weights: Mapping[str, int], errors: Mapping[str, float], target: float, low: int, high: int
) -> dict[str, int]:
    """Give ``high`` bits to the most sensitive layers as far as the average allows, and ``low`` to all others.

    Layers are visited in order of decreasing error, with ties in order of their names. A layer that would bring the
    average above the target is skipped, and the search continues with the next one.

    Args:
        weights: Number of weights of each layer.
        errors: Relative output error of each layer at ``low`` bits.
        target: Largest average that is allowed (``average_bits``).
        low: Bits of insensitive layers.
        high: Bits of sensitive layers.

    Returns:
        Bits of each layer.

    Raises:
        ConfigError: The target cannot be reached.
    """
    require_reachable_average(weights, target, low)
    bits = dict.fromkeys(weights, low)
    for name in sorted(weights, key=lambda name: (-errors[name], name)):
        if average_bits(weights, bits | {name: high}) <= target:
            bits[name] = high
    return bits

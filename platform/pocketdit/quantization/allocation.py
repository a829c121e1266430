"""Bit allocation: more sensitive layers get more bits (paper supplement C, which uses an average of 4.3 bits)."""

from collections.abc import Mapping
from typing import Literal

from pocketdit.errors import ConfigError
from pocketdit.quantization.palette import stored_bits

Ranking = Literal["relative", "mse"]
"""How a layer's sensitivity is measured. "mse" is the mean squared error of its output, as in the paper, and "relative"
is this error divided by the mean square of the output."""


def average_bits(weights: Mapping[str, int], bits: Mapping[str, int]) -> float:
    """Compute the average number of bits per weight over all palettized layers, including the palettes.

    Args:
        weights: Number of weights in each layer.
        bits: Palette bits of each layer.
    """
    return sum(stored_bits(count, bits[name]) for name, count in weights.items()) / sum(weights.values())


def require_reachable_average(weights: Mapping[str, int], target: float, low: int) -> None:
    """Check that a target for the average number of bits can be reached.

    Raises:
        ConfigError: The average is above the target even with ``low`` bits for all layers.
    """
    least = average_bits(weights, dict.fromkeys(weights, low))
    if least > target:
        raise ConfigError(
            f"stage.init_args.average_bits: {target:g} is too low; even with {low} bits for every layer, the average "
            f"is {least:.3f}, palettes included"
        )


def allocate_bits(
    weights: Mapping[str, int], errors: Mapping[str, float], target: float, low: int, high: int
) -> dict[str, int]:
    """Assign ``high`` bits to the most sensitive layers, within the target average, and ``low`` bits to the others.

    Layers are visited in order of decreasing error, with ties broken by name. A layer that would push the average above
    the target is skipped, and the next layer is tried.

    Args:
        weights: Number of weights in each layer.
        errors: Output error of each layer at ``low`` bits.
        target: Maximum average, as computed by ``average_bits``.
        low: Palette bits of insensitive layers.
        high: Palette bits of sensitive layers.

    Returns:
        Palette bits of each layer.

    Raises:
        ConfigError: The target cannot be reached.
    """
    require_reachable_average(weights, target, low)
    bits = dict.fromkeys(weights, low)
    for name in sorted(weights, key=lambda name: (-errors[name], name)):
        if average_bits(weights, bits | {name: high}) <= target:
            bits[name] = high
    return bits

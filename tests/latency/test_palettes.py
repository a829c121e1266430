"""Tests that palettes reduce the size of the stored weights in a census, and change nothing else."""

from pocketdit.latency.ladder import load_census
from pocketdit.latency.palettes import with_palettes


def test_palettes_change_only_the_bytes_of_convolutions() -> None:
    census = load_census("small")
    smaller = with_palettes(census, 4.0)
    for before, after in zip(census.operations, smaller.operations, strict=True):
        if before.kind in ("conv", "conv_transpose"):
            assert after.weight_bits == 4.0
            assert after.weight_bytes == round(before.weight_bytes * 4.0 / before.weight_bits)
        else:
            assert after == before
    assert census.stored_bytes - smaller.stored_bytes == census.weight_bytes - smaller.weight_bytes
    assert smaller.flops == census.flops
    assert smaller.activation_bytes == census.activation_bytes

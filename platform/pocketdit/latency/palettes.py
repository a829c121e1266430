"""The census of a graph whose weights are stored as palettes."""

from dataclasses import replace

from pocketdit.export.common.census import Census


def with_palettes(census: Census, bits: float) -> Census:
    """Return the census after palettizing the convolutions' weights to ``bits`` bits per weight (supplement C)."""
    operations = tuple(
        replace(o, weight_bytes=round(o.weight_bytes * bits / o.weight_bits), weight_bits=bits)
        if o.kind in ("conv", "conv_transpose") and o.weight_bits
        else o
        for o in census.operations
    )
    saved = census.weight_bytes - Census(operations).weight_bytes
    return Census(operations, census.stored_bytes - saved)

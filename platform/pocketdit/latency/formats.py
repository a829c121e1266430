"""The bundle formats that ``lightning recommend`` compares."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A bundle format.

    Attributes:
        name: Name of the export target, and of its YAML file in ``experiments/export/``.
        title: Name in tables.
        stores_palettes: Whether palettized weights are stored as palettes. Otherwise, they are stored in fp16.
        measured_by: Name of the command that measures a bundle on a device. Empty if bundles cannot be measured.
        note: Note on predictions for this format.
    """

    name: str
    title: str
    stores_palettes: bool = True
    measured_by: str = ""
    note: str = ""


# If several candidates are otherwise equal, the format that comes first is preferred.
FORMATS = (
    Format("coreml", "Core ML", measured_by="latency"),
    Format(
        "coreai",
        "Core AI",
        note="Core AI requires iOS 27 or macOS 27; its latency is predicted as if it were Core ML, because no Core AI "
        "latencies have been published",
    ),
    Format(
        "litert",
        "LiteRT",
        stores_palettes=False,
        note="LiteRT stores palettized weights in fp16",
    ),
)
FP16_BITS = 16.0


def formats_for(names: tuple[str, ...]) -> tuple[Format, ...]:
    """Return the formats with these names, in order of preference."""
    return tuple(item for item in FORMATS if item.name in names)

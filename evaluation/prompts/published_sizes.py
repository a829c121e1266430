"""The published sizes of the benchmarks, for marking scores that were computed from only part of a benchmark."""

from evaluation.contract import ImageSet
from evaluation.metrics.compbench.categories import CATEGORIES, prompt_set_name

# For each prompt set, the number of prompts and the number of images per prompt. ``DPGBench`` itself checks its number
# of images, because the images of a prompt may be tiles of one file.
_SIZES: dict[str, tuple[int, int | None]] = {
    "geneval": (553, 4),
    "geneval2": (800, 1),
    "dpg": (1065, None),
    **{prompt_set_name(category): (300, 10) for category in CATEGORIES},
}


def size_notes(images: ImageSet) -> tuple[str, ...]:
    """Return a note if there are fewer prompts or images than a benchmark's protocol requires."""
    name, count, each = images.prompts.name, len(images.prompts.prompts), images.prompts.images_each
    prompts, images_each = _SIZES.get(name, (count, None))
    parts = [f"{count} of the {prompts} prompts"] if count < prompts else []
    if images_each is not None and each < images_each:
        parts.append(f"{each} of the {images_each} images per prompt")
    return (f"Computed from only {' and '.join(parts)} of {name}.",) if parts else ()

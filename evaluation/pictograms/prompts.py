"""Captions of the compositions in the validation split, with the contents that the captions describe."""

from typing import Any

from datamodules.pictograms.captions import annotate_composition, short_caption
from datamodules.pictograms.composition import generate_compositions

GROUPS = ("single_object", "counting", "position")
_SEED_OFFSET = 1 << 20  # avoids the seeds of data sets, whose validation images would otherwise have these captions


def held_out_prompts(count: int, seed: int, size: int) -> list[dict[str, Any]]:
    """Return expectations in GenEval's format, each with the "width" and "height" of the image to sample.

    The prompts cycle through the ``GROUPS``, and none is repeated.

    Args:
        count: Number of prompts.
        seed: Seed of the compositions.
        size: Side of the images in pixels.
    """
    waiting: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    used: set[str] = set()
    prompts: list[dict[str, Any]] = []
    compositions = generate_compositions("validation", 1 << 30, _SEED_OFFSET + seed)
    while len(prompts) < count:
        group = GROUPS[len(prompts) % len(GROUPS)]
        while not waiting[group]:
            number, composition = next(compositions)
            caption = short_caption(composition, number)
            expectation = annotate_composition(composition, caption)["geneval"]
            if caption not in used:
                used.add(caption)
                waiting[expectation["tag"]].append(expectation)
        prompts.append({**waiting[group].pop(0), "width": size, "height": size})
    return prompts

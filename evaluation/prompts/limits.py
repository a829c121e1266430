"""Fewer prompts, or another number of images per prompt, than a benchmark's protocol asks for."""

from dataclasses import replace

from evaluation.contract import PromptSet
from pocketdit.errors import ConfigError


def limited(prompts: PromptSet, limit: int | None, images_each: int | None) -> PromptSet:
    """The first ``limit`` prompts; fewer or more pictures of each than the protocol asks for."""
    for name, value in (("limit", limit), ("images_each", images_each)):
        if value is not None and value < 1:
            raise ConfigError(f"{prompts.name}: {name} must be at least 1, not {value}")
    return replace(
        prompts,
        prompts=prompts.prompts[:limit],
        images_each=prompts.images_each if images_each is None else images_each,
    )

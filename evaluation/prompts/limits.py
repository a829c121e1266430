"""Limits on the size of prompt sets."""

from dataclasses import replace

from evaluation.contract import PromptSet
from pocketdit.errors import ConfigError


def limit_prompts(prompts: PromptSet, limit: int | None = None, images_each: int | None = None) -> PromptSet:
    """Return a copy of a prompt set with only its first prompts or with a different number of images per prompt.

    Args:
        prompts: The prompt set.
        limit: Maximum number of prompts; None keeps all.
        images_each: Images per prompt; None keeps the number of the prompt set.

    Raises:
        ConfigError: A number is below 1.
    """
    for name, value in (("limit", limit), ("images_each", images_each)):
        if value is not None and value < 1:
            raise ConfigError(f"{prompts.name}: {name} must be at least 1, not {value}")
    return replace(
        prompts,
        prompts=prompts.prompts[:limit],
        images_each=prompts.images_each if images_each is None else images_each,
    )

"""Options that several commands share."""

from collections.abc import Sequence

from pocketdit.errors import ConfigError


def parse_tags(tags: Sequence[str]) -> dict[str, str]:
    """Parse ``--tag KEY=VALUE`` options into a dictionary.

    Raises:
        ConfigError: A value does not have the form KEY=VALUE.
    """
    for tag in tags:
        if not tag.partition("=")[0] or "=" not in tag:
            raise ConfigError(f"--tag {tag}: must have the form KEY=VALUE")
    return {key: value for key, _, value in (tag.partition("=") for tag in tags)}

"""Options that several commands share."""

from collections.abc import Sequence

from pocketdit.errors import ConfigError


def parse_tags(tags: Sequence[str]) -> dict[str, str]:
    """Return the values of ``--tag KEY=VALUE`` by key.

    Raises:
        ConfigError: An option does not have this form.
    """
    for tag in tags:
        if not tag.partition("=")[0] or "=" not in tag:
            raise ConfigError(f"--tag {tag}: must have the form KEY=VALUE")
    return {key: value for key, _, value in (tag.partition("=") for tag in tags)}

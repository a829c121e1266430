"""Properties of encoders that their classes declare, for code that runs before any weights are loaded."""

import inspect
from collections.abc import Sequence

from pocketdit.config.component import Component
from pocketdit.config.importing import import_class
from pocketdit.errors import ConfigError


def latent_factor(autoencoder: Component) -> int:
    """Return the ratio of image size to latent size, which the class of the autoencoder declares as ``factor``.

    Raises:
        ConfigError: The class does not declare a ``factor``, so it is not an autoencoder.
    """
    factor = getattr(import_class(autoencoder.class_path), "factor", None)
    if not isinstance(factor, int):
        raise ConfigError(
            f"autoencoder: {autoencoder.class_path} does not declare a factor, so it is not an autoencoder"
        )
    return factor


def latent_sides(autoencoder: Component, size: tuple[int, int]) -> tuple[int, int]:
    """Return the latent height and width for an image size (height, width) in pixels."""
    factor = latent_factor(autoencoder)
    return size[0] // factor, size[1] // factor


def latents_kind(autoencoder: Component) -> str | None:
    """Return which published latents an autoencoder has, such as "flux", or None if its class does not declare it.

    This is the argument ``kind``, from the configuration or from the default of the class, or else the class attribute
    ``kind``.
    """
    if "kind" in autoencoder.init_args:
        return str(autoencoder.init_args["kind"])
    cls = import_class(autoencoder.class_path)
    parameter = inspect.signature(cls).parameters.get("kind")
    kind = getattr(cls, "kind", None) if parameter is None else parameter.default
    return kind if isinstance(kind, str) else None


def text_lengths(text_encoders: Sequence[Component]) -> list[int]:
    """Return the maximum number of tokens of each text encoder.

    This is the argument ``max_tokens``, from the configuration or from the default of the class.

    Raises:
        ConfigError: The configuration does not set ``max_tokens``, and the class does not have a default.
    """
    return [_max_tokens(encoder) for encoder in text_encoders]


def _max_tokens(encoder: Component) -> int:
    if "max_tokens" in encoder.init_args:
        return int(encoder.init_args["max_tokens"])
    parameter = inspect.signature(import_class(encoder.class_path)).parameters.get("max_tokens")
    if parameter is None or parameter.default is inspect.Parameter.empty:
        raise ConfigError(f"text_encoders: {encoder.class_path} has no default max_tokens; set init_args.max_tokens")
    return int(parameter.default)

"""What a configuration says about its encoders before they are built: no weights are loaded here.

Importing an encoder's class is enough to know the side of its latents and how many tokens it returns.
"""

import inspect
from collections.abc import Sequence

from pocketdit.config.component import Component, import_class
from pocketdit.errors import ConfigError


def latent_factor(autoencoder: Component) -> int:
    """Pixels per side of a latent position, declared by the autoencoder's class.

    Raises:
        ConfigError: The class declares no ``factor``, so it is not an autoencoder.
    """
    factor = getattr(import_class(autoencoder.class_path), "factor", None)
    if not isinstance(factor, int):
        raise ConfigError(f"autoencoder: {autoencoder.class_path} declares no factor, so it is not an autoencoder")
    return factor


def latent_sides(autoencoder: Component, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the latents of an image of ``size`` (height, width) pixels."""
    factor = latent_factor(autoencoder)
    return size[0] // factor, size[1] // factor


def text_lengths(text_encoders: Sequence[Component]) -> list[int]:
    """Tokens that each text encoder returns for a caption, in the order of ``text_encoders``."""
    return [_max_tokens(encoder) for encoder in text_encoders]


def _max_tokens(encoder: Component) -> int:
    if "max_tokens" in encoder.init_args:
        return int(encoder.init_args["max_tokens"])
    parameter = inspect.signature(import_class(encoder.class_path)).parameters.get("max_tokens")
    if parameter is None or parameter.default is inspect.Parameter.empty:
        raise ConfigError(f"text_encoders: {encoder.class_path} has no max_tokens, so its length is not known")
    return int(parameter.default)

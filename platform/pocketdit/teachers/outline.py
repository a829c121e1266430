"""Teachers without their weights, for cost estimates that download nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pocketdit.config.component import Component
from pocketdit.config.importing import import_class
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.outlines import Outline
from pocketdit.teachers.text_outlines import stored_config
from pocketdit.training.cost import bytes_of

if TYPE_CHECKING:
    from pocketdit.teachers.architecture import Architecture


class TeacherOutline(NamedTuple):
    """A teacher without its published weights.

    Attributes:
        network: The teacher's network. Its ``run`` takes the batch size and the latents' height and width.
        text_encoders: The teacher's text encoders that are large enough to matter. Their ``run`` takes the batch size.
        feature_width: Size of the teacher's features.
        weight_bytes: Size of the weights in memory. It differs from the size of ``network`` if the weights are stored
            in 8 bits, or if the few-step teacher is a separate transformer.
        takes_guidance: Whether the guidance scale is an input of the network.
    """

    network: Outline
    text_encoders: Sequence[Outline]
    feature_width: int
    weight_bytes: int
    takes_guidance: bool = False

    def passes(self, guidance: float) -> int:
        """Return the number of passes through the network that a prediction with this guidance scale requires."""
        return 1 if guidance == 1 or self.takes_guidance else 2


def diffusers_outline(
    architecture: "Architecture",
    repository: str,
    text_components: Sequence[Component],
    *,
    tokens: int,
    max_tokens: int,
    copies: int,
    dtype: torch.dtype,
    float8: bool,
    device: torch.device,
) -> TeacherOutline | None:
    """Return the outline of a teacher that diffusers loads, or None if its size is not known.

    Args:
        architecture: The teacher's architecture.
        repository: A folder, or the name of a repository on the Hub.
        text_components: The configurations of the teacher's text encoders.
        tokens: Number of tokens of each caption.
        max_tokens: Maximum number of tokens of a caption.
        copies: Number of transformers in memory.
        dtype: Precision of the weights and the computation.
        float8: Whether the weights are stored in 8 bits.
        device: Device of the networks.
    """
    import diffusers

    settings = stored_config(repository, "transformer", architecture.published)
    if settings is None:
        return None

    def create(device: torch.device) -> Any:
        with device:
            return getattr(diffusers, architecture.transformer).from_config(settings).to(dtype).eval()

    transformer = stored = create(device)
    if float8:
        # The counted pass does not convert weights, because converting them back to 8 bits would count as extra memory.
        stored = create(torch.device("meta"))
        stored.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    weight_bytes = copies * bytes_of(stored)
    shapes = architecture.text_shapes(transformer.config, tokens, max_tokens)

    def predict(batch: int, height: int, width: int) -> object:
        latents = torch.zeros(batch, architecture.channels(transformer), height, width, dtype=dtype, device=device)
        text = [
            TextTokens(
                torch.zeros(batch, *shape, dtype=dtype, device=device),
                torch.ones(batch, shape.tokens, dtype=torch.bool),  # on the CPU, as ``velocity`` reads the values
            )
            for shape in shapes
        ]
        return architecture.velocity(transformer, latents, torch.zeros(batch, device=device), text, 1.0)

    found = [_text_outline(encoder, device, tokens) for encoder in text_components]
    feature_width = int(getattr(transformer, architecture.feature_width))
    return TeacherOutline(
        Outline(transformer, predict),
        [each for each in found if each is not None],
        feature_width,
        weight_bytes,
        architecture.takes_guidance(transformer),
    )


def _text_outline(encoder: Component, device: torch.device, tokens: int) -> Outline | None:
    create = getattr(import_class(encoder.class_path), "outline", None)
    found: Outline | None = None if create is None else create(device, tokens, **encoder.init_args)
    return found

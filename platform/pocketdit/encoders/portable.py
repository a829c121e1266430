"""What an app needs to compute text embeddings: a tokenizer that the app implements, and a graph that it runs.

A text encoder with a method ``portable`` that returns a ``PortableText`` can be exported. The graph's embeddings must
be the same as those of ``encode``, padded with zeros to ``max_tokens``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@dataclass(frozen=True)
class PortableText:
    """The tokenizer of a text encoder, and the module that converts the tokenizer's output to embeddings.

    Attributes:
        tokenizer: Kind of the tokenizer (see ``export/app/tokenizers.py``) and its settings, as JSON values.
        module: Module that takes ``inputs`` as positional arguments and returns embeddings (1, L, width).
        inputs: Mapping from names to example inputs. The last input is ``mask`` (1, L): 1 for visible tokens and 0 for
            padding.
        files: Mapping from the names of the tokenizer's files to their contents.
    """

    tokenizer: dict[str, Any]
    module: nn.Module
    inputs: dict[str, Tensor]
    files: Mapping[str, bytes] = field(default_factory=dict)


@runtime_checkable
class PortableEncoder(Protocol):
    """A text encoder that can be exported."""

    def portable(self) -> PortableText:
        """Return the tokenizer and the module for one prompt."""
        ...


class AddPositions(nn.Module):
    """The graph of an encoder whose tokenizer computes the word vectors. It adds positions and sets padding to zero.

    Args:
        positions: Position embeddings (L, width).
    """

    positions: Tensor

    def __init__(self, positions: Tensor) -> None:
        super().__init__()
        self.register_buffer("positions", positions[None].clone())

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Map vectors (1, L, width) and their mask (1, L) to embeddings (1, L, width)."""
        return (vectors + self.positions) * mask[..., None]


class LastHiddenStates(nn.Module):
    """The graph of a language model with causal attention, in which padding at the end cannot influence other tokens.

    Args:
        model: A text model of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Map token IDs (1, L) and their mask (1, L) to embeddings (1, L, width)."""
        hidden: Tensor = self.model(input_ids=ids).last_hidden_state
        return hidden * mask[..., None]

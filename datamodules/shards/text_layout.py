"""How text embeddings are stored in the samples of an encoded data set.

The tensor of a caption has the shape (L, width) for the caption's L visible tokens, without padding. Its name consists
of the group of text encoders, the index of the encoder in the group, and the index of the caption, as in "text.0.2".
The group "text" contains the text encoders of the network that is trained, and the group "teacher" contains those of
its teacher. The tensor "teacher.0.blank" contains the embeddings of the empty caption, for which a teacher may have
visible tokens.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Group = Literal["text", "teacher"]
BLANK: Literal["blank"] = "blank"


@dataclass(frozen=True)
class TextLayout:
    """The shape of a text encoder's tokens.

    Attributes:
        width: Size of each embedding.
        max_tokens: Maximum number of tokens.
        padded_to: Number of tokens to which the encoder pads every caption. None if the encoder pads captions to the
            length of the longest caption in the batch.
    """

    width: int
    max_tokens: int
    padded_to: int | None = None

    @classmethod
    def parse(cls, description: Mapping[str, Any]) -> Self:
        """Read the layout from an encoder's description in dataset.json, whose other entries are ignored.

        Raises:
            KeyError: An entry is missing.
            ValueError: An entry is not a positive integer. ``padded_to`` may also be null.
        """
        layout = cls(description["width"], description["max_tokens"], description["padded_to"])
        for name, value in asdict(layout).items():
            if not ((type(value) is int and value > 0) or (name == "padded_to" and value is None)):
                raise ValueError(f'"{name}" is {value!r}, which is not a positive integer')
        return layout


def tensor_name(group: Group, encoder: int, caption: int | Literal["blank"]) -> str:
    """Return the name of the tensor that stores the embeddings of a caption or, for ``BLANK``, of the empty caption."""
    return f"{group}.{encoder}.{caption}"

"""Checks that a weights file for open_clip matches the image size and the context length of its model.

open_clip interpolates position embeddings of a different size without an error. The weights of ViT-L-14-336, for
example, would load as ViT-L-14, but would not yield the published features.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from evaluation.judges.weight_files import read_weights
from pocketdit.errors import UserError

# Maps the names of position embeddings in a file to their possible names in the model. The model may store its text
# tower under "text" even if the file does not.
_POSITIONS = {
    "visual.positional_embedding": ("visual.positional_embedding",),
    "positional_embedding": ("positional_embedding", "text.positional_embedding"),
    "text.positional_embedding": ("text.positional_embedding",),
}
Shape = tuple[int, ...]


def position_shapes(path: Path, model: str, source: str) -> dict[str, Shape]:
    """Return the shapes of the position embeddings in a weights file. NumPy files of big_vision are not inspected.

    Args:
        path: The file.
        model: Name of the model for error messages.
        source: Where to get the correct file, for error messages.

    Raises:
        UserError: The file cannot be read, or contains something other than weights.
    """
    if path.suffix in (".npz", ".npy"):
        return {}
    content = read_weights(path, model, source, shapes_only=True)
    tensors = content["state_dict"] if isinstance(content.get("state_dict"), dict) else content
    named = {str(name).removeprefix("module."): tensor for name, tensor in tensors.items()}
    return {name: tuple(named[name].shape) for name in _POSITIONS if isinstance(named.get(name), Tensor)}


def check_positions(network: nn.Module, shapes: Mapping[str, Shape], place: str) -> None:
    """Check that no position embedding was interpolated when the network was loaded from a file.

    Args:
        network: The network.
        shapes: Shapes in the file (see ``position_shapes``).
        place: Beginning of the error message.

    Raises:
        UserError: The shape of a position embedding in the network differs from the shape in the file.
    """
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name, shape in shapes.items():
        for expected in (own[other] for other in _POSITIONS[name] if other in own):
            if expected != shape:
                raise UserError(
                    f"{place} ({name} has shape {list(shape)}, but the model has {list(expected)}); use the model for "
                    "which the weights were trained"
                )

"""Reads weights files that a user supplies, without running code in them."""

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from pocketdit.errors import UserError
from pocketdit.files import damage


def read_weights(path: Path, model: str, source: str, *, shapes_only: bool = False) -> dict[str, Any]:
    """Read a file of tensors: safetensors, or a pickle that contains only tensors and plain values.

    Args:
        path: The file.
        model: Name of the model for error messages.
        source: Where to get the correct file, for error messages.
        shapes_only: Whether only the shapes are needed. The tensors in a pickle then have no values.

    Raises:
        UserError: The file is missing or damaged, or contains something other than weights.
    """
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # the error below states the problem
                content = torch.load(path, map_location="meta" if shapes_only else "cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or first_line(error)}); {source}") from error
    except UnpicklingError as error:  # torch's message advises running the code in the file
        reason = damage(path, ValueError("it is damaged or contains more than tensors"))
        raise UserError(f"{path}: does not contain plain weights of {model} ({reason}); {source}") from error
    except Exception as error:  # a damaged file can make the readers raise any exception
        reason = damage(path, error)
        raise UserError(f"{path}: does not contain plain weights of {model} ({reason}); {source}") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: does not contain plain weights of {model} (it contains no named tensors); {source}")
    return content


def first_line(error: BaseException, limit: int = 200) -> str:
    """Return the first informative line of an error message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The first line of torch's message about missing or mismatched tensors does not name the tensors.
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading state_dict"):
        lines = lines[1:]
    text = lines[0].rstrip(" .:") if lines else type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."

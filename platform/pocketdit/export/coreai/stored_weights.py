"""Check that packages store the matrices of the network bit for bit.

With float16, a change to a single weight can be too small to detect in the outputs.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketdit.errors import RunError
from pocketdit.export.coreai.convert import Precision
from pocketdit.export.coreai.package import Package

Fingerprint = tuple[tuple[int, ...], str]
_DTYPES: dict[Precision, torch.dtype] = {"float16": torch.float16, "float32": torch.float32}


def require_stored_weights(packages: Iterable[Package], weights: Mapping[str, Tensor], precision: Precision) -> int:
    """Check that each weight matrix of the network, rounded to ``precision``, is stored in one of the packages.

    Core AI stores some matrices transposed, and both forms of the transformer add or remove axes of size 1.

    Args:
        packages: Packages to search.
        weights: State dict of the network in the training form.
        precision: Precision of the packages.

    Returns:
        Number of weights that were checked.

    Raises:
        RunError: A weight is missing from all packages. The message contains its name.
    """
    stored = {fingerprint for package in packages for fingerprint in _fingerprints(package)}
    matrices = {name: value for name, value in weights.items() if value.ndim > 1 and name.endswith("weight")}
    for name, value in matrices.items():
        if not any(_fingerprint(form.numpy()) in stored for form in _forms(value.to(_DTYPES[precision]))):
            raise RunError(f"{name}: the packages do not contain this weight of the network")
    return len(matrices)


def _forms(weight: Tensor) -> Iterable[Tensor]:
    """Yield a layer's weight in each layout that a form of the transformer may use.

    The training form computes convolutions whose windows do not overlap as matrix products (``backbones/elastic.py``).
    """
    yield weight
    if weight.ndim == 4:
        yield weight.permute(0, 2, 3, 1).flatten(1)
        yield weight.permute(2, 3, 1, 0).flatten(0, 2)


def _fingerprints(package: Package) -> Iterable[Fingerprint]:
    for operation in package.constants.values():
        (declared,) = operation.outputs
        if declared.numel > 1 and declared.element in ("f16", "f32"):
            value = package.read(operation).squeeze()
            yield _fingerprint(value)
            if value.ndim == 2:
                yield _fingerprint(value.T)


def _fingerprint(value: NDArray[Any]) -> Fingerprint:
    """Return an array's shape without axes of size 1, and the SHA-256 of its values."""
    return value.squeeze().shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()

"""Check that a package stores the matrices of the network bit for bit.

With float16, a change to a single weight can be too small to detect in the outputs.
"""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pocketdit.errors import RunError
from pocketdit.export.coreml.convert import Precision
from pocketdit.export.coreml.interpreter import read_weight
from pocketdit.export.coreml.package import Package

Fingerprint = tuple[tuple[int, ...], str]
_DTYPES: dict[Precision, torch.dtype] = {"float16": torch.float16, "float32": torch.float32}


def require_stored_weights(packages: Iterable[Package], weights: Mapping[str, Tensor], precision: Precision) -> int:
    """Check that the weight of each convolution, rounded to ``precision``, is stored in one of the packages.

    Args:
        packages: Packages to search.
        weights: Named weights of the mobile form.
        precision: Precision of the packages.

    Returns:
        Number of weights that were checked.

    Raises:
        RunError: A weight is missing from all packages. The message contains its name.
    """
    stored = {fingerprint for package in packages for fingerprint in _fingerprints(package)}
    matrices = {name: value for name, value in weights.items() if value.ndim == 4 and name.endswith("weight")}
    for name, value in matrices.items():
        if _fingerprint(value.to(_DTYPES[precision])) not in stored:
            raise RunError(f"{name}: the packages do not contain this weight of the network")
    return len(matrices)


def _fingerprints(package: Package) -> Iterable[Fingerprint]:
    for operation in package.constants.values():
        declared = operation.outputs[operation.name]
        if len(declared.shape) == 4 and declared.dtype in ("FLOAT16", "FLOAT32"):
            yield _fingerprint(torch.from_numpy(read_weight(package, operation).copy()))


def _fingerprint(value: Tensor) -> Fingerprint:
    """Return the shape and the SHA-256 of a tensor."""
    return tuple(value.shape), hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
